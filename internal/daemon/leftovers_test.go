// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/internal/config"
	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/internal/server"
	"github.com/lazybpf/lazybpf/internal/wg"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// leave ends a daemon, and leaves its files as if it had been killed.
func leave(t *testing.T, d *Daemon) {
	t.Helper()
	left := files(t, d.options)
	stop(t, d)
	for name, content := range left {
		if name == filepath.Base(d.options.Control) {
			continue
		}
		if err := os.WriteFile(filepath.Join(filepath.Dir(d.options.Control), name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFilesOfAnotherInterface has a daemon die, and then its interface give way to another of its name: that must not get
// the peers of the other, nor keepalives that nobody has given it.
func TestFilesOfAnotherInterface(t *testing.T) {
	t.Parallel()
	for verb, clean := range map[string]func(*testing.T, Options){
		"restore": func(t *testing.T, o Options) {
			if n, err := Restore(o.Interface, o.Control, ""); n != 0 || err != nil {
				t.Errorf("%d restored, %v", n, err)
			}
		},
		"run": func(t *testing.T, o Options) { stop(t, manage(t, o)) },
	} {
		t.Run(verb, func(t *testing.T) {
			n := labtest.Network(t, lab.Options{Keepalive: every})
			add(t, n, far, "10.98.0.0/24")
			d := manage(t, optionsFor(t, n))
			evict(t, d, far)
			leave(t, d)
			down(t, n)
			same := peerOf(t, there(n), "10.8.0.2/32")
			same.PersistentKeepaliveInterval = nil
			up(t, n, same)
			clean(t, d.options)
			expectGone(t, n, far)
			if got := keepaliveOf(t, n, there(n)); got != 0 {
				t.Errorf("keepalive %s of a peer that has none", got)
			}
			if left := files(t, d.options); len(left) > 0 {
				t.Errorf("files %v are left", left)
			}
		})
	}
}

// TestFilesOfNeighbour has a daemon die, and then somebody name another interface together with its socket: the files say
// what the interface of the dead one needs, and must not go.
func TestFilesOfNeighbour(t *testing.T) {
	t.Parallel()
	n, other := labtest.Network(t, lab.Options{Keepalive: every}), labtest.Network(t, lab.Options{Keepalive: every})
	add(t, n, far, "10.98.0.0/24")
	d := manage(t, optionsFor(t, n))
	evict(t, d, far)
	leave(t, d)
	set(t, n, far, wgtypes.PeerConfig{Remove: true}) // as it is after kill -9
	set(t, n, there(n), wgtypes.PeerConfig{PersistentKeepaliveInterval: new(time.Duration)})
	want := fmt.Sprintf("is of %s: lazybpf restore %[1]s --control %s, or give", n.Here.Name, d.options.Control)

	wrong := d.options
	wrong.Interface = other.Here.Name
	if _, err := Restore(wrong.Interface, wrong.Control, ""); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("restore: error %v, want %q", err, want)
	}
	if other, err := New(t.Context(), wrong); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("run: error %v, want %q", err, want)
		if err == nil {
			stop(t, other)
		}
	}
	expectKeepalive(t, other, there(other), every)
	if _, err := Restore(d.options.Interface, d.options.Control, ""); err != nil {
		t.Error(err)
	}
	expectKeepalive(t, n, there(n), every)
	expectKeepalive(t, n, far, every)
	if left := files(t, d.options); len(left) > 0 {
		t.Errorf("files %v are left", left)
	}
}

// TestKeepaliveOfPolicyAfterCrash has a daemon die that has given peers another keepalive than they had.
func TestKeepaliveOfPolicyAfterCrash(t *testing.T) {
	t.Parallel()
	for verb, clean := range map[string]func(*testing.T, Options){
		"restore": func(t *testing.T, o Options) {
			if _, err := Restore(o.Interface, o.Control, ""); err != nil {
				t.Error(err)
			}
		},
		"run": func(t *testing.T, o Options) {
			o.Policy = config.Policy{}
			stop(t, manage(t, o))
		},
	} {
		t.Run(verb, func(t *testing.T) {
			n := labtest.Network(t, lab.Options{}) // There has no keepalive
			add(t, n, far, "10.98.0.0/24")
			options := optionsFor(t, n)
			options.Policy.Peers = []config.Peer{
				{Name: "there", Key: there(n), Keepalive: new(10 * time.Second)},
				{Name: "far", Key: far, Keepalive: new(10 * time.Second)},
			}
			d := manage(t, options)
			do(t, backend{d}.Wake, "there", "far")
			expectKeepalive(t, n, there(n), 10*time.Second)
			expectKeepalive(t, n, far, 10*time.Second)
			leave(t, d)
			for _, key := range []lazy.Key{there(n), far} { // as it is after kill -9
				p := peerOf(t, key)
				p.PersistentKeepaliveInterval = new(10 * time.Second)
				set(t, n, key, p)
			}
			clean(t, options)
			expectKeepalive(t, n, there(n), 0)
			expectKeepalive(t, n, far, every)
		})
	}
}

// TestRestoreKeepsDaemonsOut has a daemon begin while restore is at work: it would make a journal, and restore remove it.
func TestRestoreKeepsDaemonsOut(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{Userspace: true})
	options := optionsFor(t, n)
	leaveJournal(t, options.Control, n.Here.Name, map[lazy.Key]wg.Keepalive{there(n): {Original: every, Open: every}})
	var asked sync.Once
	intercept(t, n, func() bool {
		asked.Do(func() {
			l, err := server.Listen(options.Control, server.Group{})
			if !errors.Is(err, server.ErrRunning) {
				t.Errorf("while restore is at work: error %v, want ErrRunning", err)
			}
			if err == nil {
				l.Close()
			}
		})
		return true
	})
	if restored, err := Restore(n.Here.Name, options.Control, ""); err != nil || restored != 1 {
		t.Errorf("%d restored, %v", restored, err)
	}
	if left := files(t, options); len(left) > 0 {
		t.Errorf("files %v are left", left)
	}
}

// TestJournalFirst has no keepalive turned off that the journal does not have: it would be lost in a crash.
func TestJournalFirst(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	d := manage(t, optionsFor(t, n))
	journal := string(JournalOf(d.options.Control))
	if err := os.Remove(journal); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(journal, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	add(t, n, far, "10.98.0.0/24")
	set(t, n, there(n), wgtypes.PeerConfig{PersistentKeepaliveInterval: new(every)})
	for range 2 {
		if err := sessionOf(t, d).read(t.Context()); err == nil {
			t.Error("the journal has been written")
		}
		for _, key := range []lazy.Key{far, there(n)} {
			if got := keepaliveOf(t, n, key); got != every {
				t.Errorf("keepalive %s of %s, which the journal does not have", got, key)
			}
		}
	}
	if err := os.RemoveAll(journal); err != nil {
		t.Fatal(err)
	}
	reread(t, d)
	expectJournal(t, d, map[lazy.Key]time.Duration{far: every, there(n): every})
	for _, key := range []lazy.Key{far, there(n)} {
		if got := keepaliveOf(t, n, key); got != 0 {
			t.Errorf("keepalive %s of %s, which is asleep", got, key)
		}
	}
}
