// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/internal/wg"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// answerTime is what wireguard-go has in these tests, in which they really wait.
const answerTime = 3 * time.Second

// TestHangsAndGoesOn has wireguard-go hang while a peer is woken. What was asked of it then is done, and undone.
func TestHangsAndGoesOn(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{Userspace: true, Keepalive: every})
	add(t, n, far, "10.98.0.0/24")
	options := optionsFor(t, n)
	options.answer = answerTime
	d := manage(t, options)
	log := logtest.NewLocal(options.Log)
	w, s := watcher{Daemon: d}, sessionOf(t, d)
	var hang sync.RWMutex // locked: wireguard-go answers nobody
	intercept(t, n, func() bool {
		hang.RLock()
		defer hang.RUnlock()
		return true
	})
	hang.Lock()
	time.AfterFunc(100*time.Millisecond, hang.Unlock)
	w.read(t.Context(), s)
	if w.trouble != "" || time.Until(w.due) > followInterval {
		t.Errorf("one reading had to wait: %q, the next is in %s", w.trouble, time.Until(w.due))
	}
	hang.Lock()
	for range 2 { // the second time all fails at once
		var reading sync.WaitGroup
		reading.Go(func() { w.read(t.Context(), s) })
		results, err := backend{d}.Wake(t.Context(), []string{"FarA"})
		if err != nil || !strings.Contains(results[0].Error, wg.ErrNoAnswer.Error()) {
			t.Errorf("woken: %+v, %v", results, err)
		}
		reading.Wait()
		if w.trouble == "" || time.Until(w.due) > followInterval {
			t.Errorf("trouble %q, the next reading is in %s", w.trouble, time.Until(w.due))
		}
	}
	hang.Unlock()
	soon(t, "the device is read", func() bool {
		w.read(t.Context(), s)
		return w.trouble == ""
	})
	expectKeepalive(t, n, far, 0)
	expectLogged(t, log, "warning cannot follow the interface, trying again", "info the interface is followed again")
	expectJournal(t, d, map[lazy.Key]time.Duration{there(n): every, far: every})
	do(t, backend{d}.Wake, "FarA")
	expectKeepalive(t, n, far, every)
}

// TestEndsWhileItHangs has the daemon end while wireguard-go hangs, and cleans up after that.
func TestEndsWhileItHangs(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{Userspace: true, Keepalive: every})
	add(t, n, far, "10.98.0.0/24")
	options := optionsFor(t, n)
	options.answer, options.BPFFS = answerTime, "/sys/fs/bpf"
	d, err := New(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	evict(t, d, far)
	do(t, backend{d}.Sleep, there(n).String())
	expectKeepalive(t, n, there(n), 0)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	release := stall(t, n)
	cancel()
	err = <-ended
	says := fmt.Sprintf("%[1]s: WireGuard does not answer; keepalives and evicted peers to give back: 2; lazybpf restore %[1]s does so once it answers", n.Here.Name)
	if !errors.Is(err, wg.ErrNoAnswer) || err.Error() != says {
		t.Errorf("error %q, want %q", err, says)
	}
	left := slices.Sorted(maps.Keys(files(t, options)))
	if want := []string{"wg0.evicted", "wg0.journal"}; !slices.Equal(left, want) || parkingDevice(t, n) {
		t.Errorf("left: files %v, parking device: %v", left, parkingDevice(t, n))
	}
	if _, err := os.Stat(PinDir(options.BPFFS, n.Here.Name)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("pins are left: %v", err)
	}
	release()
	if restored, err := Restore(n.Here.Name, options.Control, options.BPFFS); err != nil || restored != 2 {
		t.Errorf("%d restored, %v", restored, err)
	}
	for _, key := range []lazy.Key{there(n), far} {
		if got := keepaliveOf(t, n, key); got != every {
			t.Errorf("keepalive %s of %s", got, key)
		}
	}
	if left := files(t, options); len(left) > 0 {
		t.Errorf("files %v are left", left)
	}
}
