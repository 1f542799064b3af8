// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/pkg/control"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// The manager asks for no eviction within the time of a test. These tests ask in its place; a peer of a network has no
// session as long as nobody has talked to it.

// evict evicts peers of a daemon that must go.
func evict(t *testing.T, d *Daemon, peers ...lazy.Key) {
	t.Helper()
	for _, key := range peers {
		again, err := evicting{sessionOf(t, d).connector, d.log}.Evict(t.Context(), key)
		if err != nil || !again.IsZero() {
			t.Fatalf("again %v, error %v", again, err)
		}
	}
}

// onDevice is a peer of Here's, and whether it is there.
func onDevice(t *testing.T, n *lab.Network, key lazy.Key) (wgtypes.Peer, bool) {
	t.Helper()
	device, err := n.Here.Device()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(device.Peers, func(p wgtypes.Peer) bool { return p.PublicKey == wgtypes.Key(key) })
	if i < 0 {
		return wgtypes.Peer{}, false
	}
	return device.Peers[i], true
}

func expectGone(t *testing.T, n *lab.Network, key lazy.Key) {
	t.Helper()
	if p, there := onDevice(t, n, key); there {
		t.Errorf("on the device is %s %v", key, p.AllowedIPs)
	}
}

func TestEvicted(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{Keepalive: every})
	add(t, n, far, "10.98.0.0/24")
	d := manage(t, optionsFor(t, n))
	evict(t, d, far)
	for range 2 {
		expectGone(t, n, far)
		p := statusOf(t, d, far)
		if !p.Evicted || p.State != control.StateIdle || !slices.Equal(p.AllowedIPs, []string{"10.98.0.0/24"}) {
			t.Errorf("status %+v", p)
		}
		if key, err := whoIs(t, d, "10.98.0.7"); key != far || err != nil {
			t.Errorf("10.98.0.7 is %s, %v", key, err)
		}
		if p := statusOf(t, d, there(n)); p.Evicted {
			t.Error("another is said to be evicted")
		}
		reread(t, d) // it is neither removed nor added
	}
	expectJournal(t, d, map[lazy.Key]time.Duration{there(n): every, far: every})

	do(t, backend{d}.Wake, "10.98.0.7")
	expectKeepalive(t, n, far, every)
	if p := statusOf(t, d, far); p.Evicted {
		t.Errorf("status %+v", p)
	}
	do(t, backend{d}.Sleep, "FarA")
	expectKeepalive(t, n, far, 0)
	evict(t, d, far)
	stop(t, d)
	expectKeepalive(t, n, far, every)
	if left := files(t, d.options); len(left) > 0 {
		t.Errorf("files %v are left", left)
	}
}

// TestEvictedStatus is the contract: a field for those that are, none for the others.
func TestEvictedStatus(t *testing.T) {
	for evicted, want := range map[bool]bool{true: true, false: false} {
		text, err := json.Marshal(control.Peer{Evicted: evicted})
		if err != nil || strings.Contains(string(text), `"evicted":true`) != want || strings.Contains(string(text), "evicted") != want {
			t.Errorf("%s, %v", text, err)
		}
	}
}

// TestRevoked removes a peer while it is evicted. WireGuard tells nobody of it: it must be woken first, as the help says.
func TestRevoked(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	add(t, n, far, "10.98.0.0/24")
	d := manage(t, optionsFor(t, n))
	evict(t, d, far)
	do(t, backend{d}.Wake, "FarA")
	set(t, n, far, wgtypes.PeerConfig{Remove: true})
	reread(t, d)
	if p := statusOf(t, d, far); p != nil {
		t.Errorf("status %+v", p)
	}
	stop(t, d)
	expectGone(t, n, far)
}

// TestReturned has somebody else put an evicted peer back, other than it was.
func TestReturned(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	add(t, n, far, "10.98.0.0/24")
	d := manage(t, optionsFor(t, n))
	evict(t, d, far)
	set(t, n, far, wgtypes.PeerConfig{PersistentKeepaliveInterval: new(40 * time.Second), AllowedIPs: ipNets(t, "10.98.1.0/24")})
	reread(t, d)
	p := statusOf(t, d, far)
	if p.Evicted || p.State != control.StateIdle || !slices.Equal(p.AllowedIPs, []string{"10.98.1.0/24"}) {
		t.Errorf("status %+v", p)
	}
	expectKeepalive(t, n, far, 0) // it sleeps
	expectJournal(t, d, map[lazy.Key]time.Duration{far: 40 * time.Second})
	set(t, n, far, wgtypes.PeerConfig{Remove: true})
	reread(t, d)
	if p := statusOf(t, d, far); p != nil {
		t.Errorf("status of a peer that was removed: %+v", p)
	}
}

// TestEvictedLosesPrefix has another peer get what an evicted one had.
func TestEvictedLosesPrefix(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	add(t, n, far, "10.98.0.0/24", "10.98.1.0/24")
	d := manage(t, optionsFor(t, n))
	evict(t, d, far)
	add(t, n, keyOf("Newc"), "10.98.0.0/24")
	reread(t, d)
	for range 2 {
		for address, want := range map[string]lazy.Key{"10.98.0.1": keyOf("Newc"), "10.98.1.1": far} {
			if got, err := whoIs(t, d, address); got != want || err != nil {
				t.Errorf("%s is %s, %v; want %s", address, got, err, want)
			}
		}
		if got := statusOf(t, d, far).AllowedIPs; !slices.Equal(got, []string{"10.98.1.0/24"}) {
			t.Errorf("allowed IPs %q of the one that lost one", got)
		}
		do(t, backend{d}.Wake, "FarA")
		reread(t, d)
	}
}

// TestCrashOfEvicted has a daemon die with evicted peers, one of which it was just about to remove, or to put back, and has been
// changed since. The next daemon, and restore, put the other back, and leave that one alone.
func TestCrashOfEvicted(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	half := keyOf("Half")
	preshared := wgtypes.Key{'p', 's', 'k'}
	set(t, n, far, wgtypes.PeerConfig{
		PresharedKey: &preshared, PersistentKeepaliveInterval: new(every), AllowedIPs: ipNets(t, "10.98.0.0/24", "fd98::/64"),
	})
	add(t, n, half, "10.98.1.0/24")
	options := optionsFor(t, n)
	die := func() {
		t.Helper()
		d := manage(t, options)
		evict(t, d, far, half)
		left := files(t, options)
		stop(t, d)
		for _, path := range []string{EvictedOf(options.Control), string(JournalOf(options.Control))} {
			if err := os.WriteFile(path, []byte(left[path[strings.LastIndex(path, "/")+1:]]), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		set(t, n, far, wgtypes.PeerConfig{Remove: true})
		set(t, n, half, wgtypes.PeerConfig{ReplaceAllowedIPs: true, AllowedIPs: ipNets(t, "10.98.2.0/24")})
	}
	check := func(when string, keepalive time.Duration) {
		t.Helper()
		p, there := onDevice(t, n, far)
		if !there || p.PresharedKey != preshared || len(p.AllowedIPs) != 2 || p.PersistentKeepaliveInterval != keepalive {
			t.Errorf("%s: allowed IPs %v, keepalive %s, there: %v", when, p.AllowedIPs, p.PersistentKeepaliveInterval, there)
		}
		if p, _ := onDevice(t, n, half); len(p.AllowedIPs) != 1 || p.AllowedIPs[0].String() != "10.98.2.0/24" {
			t.Errorf("%s: allowed IPs %v of the one that was changed", when, p.AllowedIPs)
		}
	}

	die()
	for _, want := range []int{1, 0} {
		if restored, err := Restore(n.Here.Name, options.Control, ""); err != nil || restored != want {
			t.Errorf("%d restored, %v; want %d", restored, err, want)
		}
		check("restored", every)
		if left := files(t, options); len(left) > 0 {
			t.Errorf("files %v are left", left)
		}
	}

	die()
	wrong := options
	wrong.Exclude = []string{"nobody"}
	if _, err := New(t.Context(), wrong); err == nil {
		t.Fatal("a daemon runs that excludes nobody knows whom")
	}
	if _, err := os.Stat(string(JournalOf(options.Control))); err != nil {
		t.Errorf("the keepalives of the dead are lost: %v", err)
	}
	d := manage(t, options)
	check("started", 0)
	expectState(t, d, far, control.StateIdle)
	expectJournal(t, d, map[lazy.Key]time.Duration{far: every, half: every})
	if _, err := os.Stat(EvictedOf(options.Control)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file of evicted peers is still there: %v", err)
	}
	stop(t, d)
	check("stopped", every)
}

// TestRecalled has eviction turned off: who is evicted comes back, and sleeps on.
func TestRecalled(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	add(t, n, far, "10.98.0.0/24")
	options := optionsFor(t, n)
	read := options
	options.Read = func() (Options, error) { return read, nil }
	d := manage(t, options)
	evict(t, d, far)
	if err := d.Reload(); err != nil {
		t.Fatal(err)
	}
	expectGone(t, n, far)
	read.EvictAfter = 0
	if err := d.Reload(); err != nil {
		t.Fatal(err)
	}
	asleep := func(when string) {
		t.Helper()
		if p, there := onDevice(t, n, far); !there || p.PersistentKeepaliveInterval != 0 || len(p.AllowedIPs) != 1 {
			t.Errorf("%s: on the device: %v, keepalive %s, allowed IPs %v", when, there, p.PersistentKeepaliveInterval, p.AllowedIPs)
		}
		if p := statusOf(t, d, far); p.Evicted || p.State != control.StateIdle {
			t.Errorf("%s: status %+v", when, p)
		}
		expectFiles(t, d, "wg0.journal", "wg0.sock")
	}
	asleep("reload")
	evict(t, d, far) // as one that was under way
	reread(t, d)
	asleep("later")
}

// TestInterfaceGoneWithEvicted has an interface take its peers with it: when it is there again, they are what somebody gives it.
func TestInterfaceGoneWithEvicted(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	add(t, n, far, "10.98.0.0/24")
	d := manage(t, optionsFor(t, n))
	evict(t, d, there(n), far)
	down(t, n)
	look(t, d)
	expectFiles(t, d, "wg0.sock")
	up(t, n)
	look(t, d)
	expectState(t, d, there(n), control.StateIdle)
	if p := statusOf(t, d, far); p != nil {
		t.Errorf("one that nobody has added again: %+v", p)
	}
	expectGone(t, n, far)
}

// TestEvictedSecrets looks for keys in all that a daemon shows while a peer is evicted, comes back, and cannot: log, status,
// events, results, errors. The file of evicted peers has the preshared key, and nobody but its owner may read it.
func TestEvictedSecrets(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{Userspace: true})
	preshared, err := wgtypes.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	set(t, n, far, wgtypes.PeerConfig{PresharedKey: &preshared, PersistentKeepaliveInterval: new(every)})
	var shown collected
	options := optionsFor(t, n)
	options.Log.SetOutput(&shown)
	options.Log.SetLevel(logrus.TraceLevel)
	options.Log.SetFormatter(new(logrus.JSONFormatter))
	d, err := New(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	show := func() {
		t.Helper()
		client := control.NewClient(options.Control)
		if err := client.CopyStatus(t.Context(), &shown, control.Filter{}); err != nil {
			t.Error(err)
		}
		for _, verb := range []func(context.Context, []string) ([]control.Result, error){client.Wake, client.Sleep} {
			results, err := verb(t.Context(), []string{far.String()})
			fmt.Fprintln(&shown, results, err)
		}
	}
	events := make(chan error, 1)
	watching, leave := context.WithCancel(t.Context())
	go func() {
		begin := func() error { return nil }
		events <- backend{d}.Events(watching, begin, func(e control.Event) error { return json.NewEncoder(&shown).Encode(e) })
	}()

	evict(t, d, far)
	if info, err := os.Stat(EvictedOf(options.Control)); err != nil || info.Mode() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
	show()
	evict(t, d, far)
	release := stall(t, n) // and what cannot be configured shows nothing either
	timed, done := context.WithTimeout(t.Context(), 10*time.Millisecond)
	_, err = backend{d}.Wake(timed, []string{far.String()})
	fmt.Fprintf(&shown, "%v %+v %#v\n", err, err, err)
	done()
	release()
	expectState(t, d, far, control.StateConnected)
	show()
	evict(t, d, far)
	s := sessionOf(t, d)
	fmt.Fprintf(&shown, "%v %+v %v\n", s.connector, s.evicted, s.peersNow())
	leave()
	if err := <-events; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}

	text := shown.String()
	for _, part := range []string{"peer evicted", `"evicted":true`, `"to":"connected"`} {
		if !strings.Contains(text, part) {
			t.Errorf("%q was not shown", part)
		}
	}
	for name, key := range map[string]wgtypes.Key{"preshared": preshared, "private": n.Here.PrivateKey} {
		for _, form := range []string{key.String(), hex.EncodeToString(key[:]), strings.Trim(fmt.Sprint(key[:]), "[]")} {
			if i := strings.Index(text, form); i >= 0 {
				t.Errorf("the %s key is shown: %s", name, text[max(i-200, 0):i+100])
			}
		}
	}
}

// collected is a buffer for several goroutines.
type collected struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (c *collected) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buffer.Write(p)
}

func (c *collected) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buffer.String()
}
