// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/pkg/lazy"
)

var _ lazy.EvictingConnector = (*Connector)(nil)

var errBroken = errors.New("broken")

// Wakes by a packet to the peer, and by hand.
var (
	egress = lazy.Wake{Reason: lazy.ReasonEgress}
	asked  = lazy.Wake{Reason: lazy.ReasonRequest}
)

func TestEvictAndOpen(t *testing.T) {
	bare := wgtypes.Peer{PublicKey: wgtypes.Key(keyOf(2))}
	d := newFakeDevice(wholePeer(1), bare)
	c, file := evictor(t, d)
	for range 2 { // and once more
		evict(t, c, keyOf(1), keyOf(2))
		if d.has(keyOf(1)) || d.has(keyOf(2)) || file.Len() != 2 {
			t.Errorf("the device has %v, the file has %d peers", d.peers, file.Len())
		}
		if err := errors.Join(c.Close(t.Context(), keyOf(1)), c.Settle(keyOf(1)), c.CloseAll([]lazy.Key{keyOf(1)})); err != nil {
			t.Error(err)
		}
		evict(t, c, keyOf(1)) // is gone already
		if d.has(keyOf(1)) || c.Ready(keyOf(1), egress) {
			t.Error("it came back by itself, or is said to be ready")
		}
		for _, key := range []lazy.Key{keyOf(1), keyOf(2)} {
			if err := c.Open(t.Context(), key, egress); err != nil {
				t.Fatal(err)
			}
			if c.Evicted(key) || !c.Ready(key, egress) {
				t.Error("it is open, and said to be evicted")
			}
		}
		expectWhole(t, d, 1)
		expectPeer(t, d, bare)
		leaves(t, filepath.Dir(file.path))
		if err := c.Close(t.Context(), keyOf(1)); err != nil {
			t.Fatal(err)
		}
		if p, _ := d.get(keyOf(1)); p.PersistentKeepaliveInterval != 0 {
			t.Error("it could not be closed again")
		}
	}
}

// TestOpenEvictedAtResolvedEndpoint has a peer that has moved while it was away.
func TestOpenEvictedAtResolvedEndpoint(t *testing.T) {
	d := newFakeDevice(wholePeer(1))
	c, _ := evictor(t, d)
	c.finder = resolve(func(context.Context, lazy.Key) (netip.AddrPort, error) {
		return netip.MustParseAddrPort("[2001:db8::7]:7"), nil
	})
	evict(t, c, keyOf(1))
	if err := c.Open(t.Context(), keyOf(1), egress); err != nil {
		t.Fatal(err)
	}
	want := wholePeer(1)
	want.Endpoint = &net.UDPAddr{IP: net.ParseIP("2001:db8::7"), Port: 7}
	expectPeer(t, d, want)
}

// TestEvictTooEarly has a peer with a session. It must stay, and is asked for again as soon as the session is over.
func TestEvictTooEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct{ ago, wait time.Duration }{
			{0, 180 * time.Second},
			{60 * time.Second, 120 * time.Second},
			{180*time.Second - 1, 1},
			{180 * time.Second, 0},
			{time.Hour, 0},
			{-time.Hour, 180 * time.Second}, // the clock was set back
		} {
			peer := wholePeer(1)
			peer.LastHandshakeTime = time.Now().Add(-test.ago)
			d := newFakeDevice(peer)
			c, file := evictor(t, d)
			again, err := c.Evict(t.Context(), keyOf(1))
			if err != nil {
				t.Fatal(err)
			}
			stays := test.wait > 0
			if stays == again.IsZero() || stays && !again.Equal(time.Now().Add(test.wait)) {
				t.Errorf("handshake %s ago: again %v, want in %s", test.ago, again, test.wait)
			}
			if d.has(keyOf(1)) != stays || c.Evicted(keyOf(1)) == stays || (file.Len() == 0) != stays {
				t.Errorf("handshake %s ago: on the device: %v", test.ago, d.has(keyOf(1)))
			}
		}
	})
}

// TestNotReplaceable has a peer at an address that cannot be given back.
func TestNotReplaceable(t *testing.T) {
	peer := wholePeer(1)
	peer.Endpoint = &net.UDPAddr{IP: net.ParseIP("fe80::1"), Port: 51820} // at which interface does wgctrl not say
	d := newFakeDevice(peer)
	c, file := evictor(t, d)
	if again, err := c.Evict(t.Context(), keyOf(1)); err != nil || !again.After(time.Now()) || file.Len() > 0 {
		t.Errorf("again %v, %v; %d in the file", again, err, file.Len())
	}
	if got, _ := d.get(keyOf(1)); got.Endpoint != peer.Endpoint {
		t.Errorf("on the device is %+v", got)
	}
}

// TestEvictionsShareReadings has many peers evicted while the device is read for the first.
func TestEvictionsShareReadings(t *testing.T) {
	const others = 100
	var peers []wgtypes.Peer
	for n := range byte(others + 1) {
		peers = append(peers, wholePeer(n))
	}
	d := newFakeDevice(peers...)
	c, file := evictor(t, d)
	reading, goOn := make(chan bool), make(chan bool)
	d.beforeRead = sync.OnceValue(func() error {
		close(reading)
		<-goOn
		return nil
	})
	var calls sync.WaitGroup
	call := func(n byte) {
		calls.Go(func() {
			if again, err := c.Evict(t.Context(), keyOf(n)); err != nil || !again.IsZero() {
				t.Errorf("peer %d: again %v, error %v", n, again, err)
			}
		})
	}
	call(0)
	<-reading
	for n := range byte(others) {
		call(n + 1)
	}
	waitFor(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.waiting) == others
	})
	close(goOn)
	calls.Wait()
	if d.reads != 2 || len(d.peers) != 0 || file.Len() != others+1 {
		t.Errorf("%d readings, %d peers are left, %d in the file", d.reads, len(d.peers), file.Len())
	}
}

func waitFor(t *testing.T, isTrue func() bool) {
	t.Helper()
	for begin := time.Now(); !isTrue(); time.Sleep(time.Millisecond) {
		if time.Since(begin) > 10*time.Second {
			t.Fatal("waited in vain")
		}
	}
}

// TestNoRemovalWithinReading looks whether reading and removing exclude each other: the kernel ends a reading early in whose
// midst the peer that is next goes.
func TestNoRemovalWithinReading(t *testing.T) {
	d := newFakeDevice(wholePeer(1))
	c, _ := evictor(t, d)
	times := 0
	excluded := func() {
		if times++; c.device.reading.TryLock() {
			t.Error("nothing excludes it")
		}
	}
	d.beforeRead = func() error { excluded(); return nil }
	d.beforePeer = func(wgtypes.PeerConfig) error { excluded(); return nil }
	evict(t, c, keyOf(1))
	if times != 2 {
		t.Errorf("looked %d times", times)
	}
}

// TestNotedBeforeRemoved reads the file at the moment in which the peer goes.
func TestNotedBeforeRemoved(t *testing.T) {
	d := newFakeDevice(wholePeer(1))
	c, file := evictor(t, d)
	removals := 0
	d.beforePeer = func(p wgtypes.PeerConfig) error {
		if p.Remove {
			removals++
			if loaded := load(t, file.path, noDevice); loaded.Len() != 1 {
				t.Error("a peer is removed that is not in the file")
			}
		}
		return nil
	}
	evict(t, c, keyOf(1))
	if removals != 1 {
		t.Errorf("%d removals", removals)
	}
}

// TestPutBackBeforeForgotten reads it at the moment in which the peer comes.
func TestPutBackBeforeForgotten(t *testing.T) {
	d := newFakeDevice(wholePeer(1))
	c, file := evictor(t, d)
	evict(t, c, keyOf(1))
	d.beforePeer = func(wgtypes.PeerConfig) error {
		if loaded := load(t, file.path, noDevice); loaded.Len() != 1 {
			t.Error("the file has forgotten a peer that is not on the device")
		}
		return nil
	}
	if err := c.Open(t.Context(), keyOf(1), egress); err != nil {
		t.Error(err)
	}
}

// TestEvictFails has it fail at each step: the peer is on the device then, in no file, and works.
func TestEvictFails(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		ctx     context.Context
		prepare func(*Connector, *fakeDevice, *EvictedFile)
		want    error
	}{
		"nobody waits": {cancelled, func(*Connector, *fakeDevice, *EvictedFile) {}, context.Canceled},
		"not read":     {nil, func(_ *Connector, d *fakeDevice, _ *EvictedFile) { d.beforeRead = func() error { return errBroken } }, errBroken},
		"not written":  {nil, func(_ *Connector, _ *fakeDevice, f *EvictedFile) { f.path = filepath.Join(f.path, "no", "folder") }, os.ErrNotExist},
		"not removed": {nil, func(_ *Connector, d *fakeDevice, _ *EvictedFile) {
			d.beforeChange = func([]wgtypes.PeerConfig) error { return errBroken }
		}, errBroken},
		"no file":    {nil, func(c *Connector, _ *fakeDevice, _ *EvictedFile) { c.file = nil }, errNoFile},
		"given back": {nil, func(c *Connector, _ *fakeDevice, _ *EvictedFile) { c.over = true }, errGaveBack},
	} {
		t.Run(name, func(t *testing.T) {
			d := newFakeDevice(wholePeer(1))
			c, file := evictor(t, d)
			if test.ctx == nil {
				test.ctx = t.Context()
			}
			before := filepath.Dir(file.path)
			test.prepare(c, d, file)
			again, err := c.Evict(test.ctx, keyOf(1))
			if !errors.Is(err, test.want) || !again.IsZero() || strings.Contains(err.Error(), "\n") {
				t.Errorf("again %v, error %v, want one line of %v", again, err, test.want)
			}
			if !d.has(keyOf(1)) || c.Evicted(keyOf(1)) || file.Len() > 0 {
				t.Errorf("on the device: %v, in the file: %d", d.has(keyOf(1)), file.Len())
			}
			leaves(t, before)
			d.beforeRead, d.beforeChange = nil, nil
			if err := c.Open(t.Context(), keyOf(1), asked); err != nil {
				t.Error(err)
			}
			expectWhole(t, d, 1)
		})
	}
}

// TestEvictGoneForGood has somebody else remove the peer first.
func TestEvictGoneForGood(t *testing.T) {
	d := newFakeDevice(wholePeer(1))
	c, file := evictor(t, d)
	d.change(wgtypes.PeerConfig{PublicKey: wgtypes.Key(keyOf(1)), Remove: true})
	if _, err := c.Evict(t.Context(), keyOf(1)); !errors.Is(err, ErrUnknownPeer) || c.Evicted(keyOf(1)) || file.Len() > 0 {
		t.Errorf("error %v, evicted %v", err, c.Evicted(keyOf(1)))
	}
	if !c.Removed(time.Now(), keyOf(1)) {
		t.Error("nobody is said to have removed it")
	}
}

// TestEvictHalf has the device break in the middle of a batch: what is gone is evicted, what is there is not.
func TestEvictHalf(t *testing.T) {
	for _, readable := range []bool{true, false} {
		var peers []wgtypes.Peer
		for n := range byte(10) {
			peers = append(peers, wholePeer(n))
		}
		d := newFakeDevice(peers...)
		c, file := evictor(t, d)
		removed := 0
		d.beforePeer = func(p wgtypes.PeerConfig) error {
			if removed++; p.Remove && removed > 5 {
				if !readable {
					d.beforeRead = func() error { return errBroken }
				}
				return errBroken
			}
			return nil
		}
		c.evicting.Lock()
		var calls sync.WaitGroup
		for n := range byte(10) {
			calls.Go(func() {
				if _, err := c.Evict(t.Context(), keyOf(n)); (err == nil) != c.Evicted(keyOf(n)) || err != nil && !errors.Is(err, errBroken) {
					t.Errorf("peer %d: error %v, evicted %v", n, err, c.Evicted(keyOf(n)))
				}
			})
		}
		waitFor(t, func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return len(c.waiting) == 10
		})
		c.evicting.Unlock()
		calls.Wait()
		want := 5
		if !readable {
			want = 10 // nobody can tell: opening puts them back in any case
		}
		if len(d.peers) != 5 || file.Len() != want {
			t.Errorf("%d on the device, %d in the file, want 5 and %d", len(d.peers), file.Len(), want)
		}
		d.beforePeer, d.beforeRead = nil, nil
		for n := range byte(10) {
			if err := c.Open(t.Context(), keyOf(n), asked); err != nil {
				t.Error(err)
			}
			expectWhole(t, d, n)
		}
		leaves(t, filepath.Dir(file.path))
	}
}

// TestOpenEvictedFails has the device refuse the peer: it is evicted as before, and the next Open puts it back.
func TestOpenEvictedFails(t *testing.T) {
	d := newFakeDevice(wholePeer(1))
	c, file := evictor(t, d)
	evict(t, c, keyOf(1))
	d.beforeChange = func([]wgtypes.PeerConfig) error { return errBroken }
	if err := c.Open(t.Context(), keyOf(1), egress); !errors.Is(err, errBroken) || !c.Evicted(keyOf(1)) || file.Len() != 1 {
		t.Errorf("error %v, evicted %v", err, c.Evicted(keyOf(1)))
	}
	d.beforeChange = nil
	if err := c.Open(t.Context(), keyOf(1), egress); err != nil {
		t.Error(err)
	}
	expectWhole(t, d, 1)
}

// TestFileFailsOnOpen has the file out of reach when the peer comes back: that works, and the file is mended later.
func TestFileFailsOnOpen(t *testing.T) {
	d := newFakeDevice(wholePeer(1), wholePeer(2))
	c, file := evictor(t, d)
	evict(t, c, keyOf(1), keyOf(2))
	dir := filepath.Dir(file.path)
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	file.torn = true // else a line is appended to the open file
	if err := c.Open(t.Context(), keyOf(1), egress); err != nil {
		t.Error(err)
	}
	expectWhole(t, d, 1)
	if _, err := c.Observe(time.Now(), nil, anybody); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v, want that of the file", err)
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Observe(time.Now(), nil, anybody); err != nil {
		t.Error(err)
	}
	if loaded := load(t, file.path, noDevice); loaded.Len() != 1 || loaded.live[keyOf(2)] == nil {
		t.Errorf("the file has %d peers, want the second", loaded.Len())
	}
}

func TestGiveBackEvicted(t *testing.T) {
	d := newFakeDevice(wholePeer(1), wholePeer(2), wholePeer(3))
	c, file := evictor(t, d)
	evict(t, c, keyOf(1), keyOf(2))
	// Somebody else has put the second back, and nobody has seen it.
	theirs := wgtypes.Peer{PublicKey: wgtypes.Key(keyOf(2)), PersistentKeepaliveInterval: time.Minute}
	d.peers[theirs.PublicKey] = theirs
	if err := c.GiveBack(); err != nil {
		t.Fatal(err)
	}
	expectWhole(t, d, 1)
	expectPeer(t, d, wgtypes.Peer{PublicKey: theirs.PublicKey, PersistentKeepaliveInterval: time.Minute})
	expectWhole(t, d, 3)
	leaves(t, filepath.Dir(file.path))
	if _, err := c.Evict(t.Context(), keyOf(1)); !errors.Is(err, errGaveBack) {
		t.Errorf("evicted after all was given back: %v", err)
	}
}

// TestRecall puts back, asleep, who is evicted, and leaves the others alone.
func TestRecall(t *testing.T) {
	d := newFakeDevice(wholePeer(1), wholePeer(2), wholePeer(3))
	c, file := evictor(t, d)
	evict(t, c, keyOf(1), keyOf(2))
	if err := c.Open(t.Context(), keyOf(2), egress); err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]lazy.Key{{keyOf(1)}, nil} {
		if got, err := c.Recall(); err != nil || !slices.Equal(got, want) {
			t.Errorf("recalled %v, %v; want %v", got, err, want)
		}
		asleep, closed := wholePeer(1), wholePeer(3)
		asleep.PersistentKeepaliveInterval, closed.PersistentKeepaliveInterval = 0, 0
		expectPeer(t, d, asleep)
		expectWhole(t, d, 2)
		expectPeer(t, d, closed)
		leaves(t, filepath.Dir(file.path))
	}
	if reading := look(t, c); len(reading.Returned)+len(reading.Drifted)+len(reading.Unsettled) > 0 {
		t.Errorf("what the connector has done is taken for that of others: %+v", reading)
	}
	evict(t, c, keyOf(1)) // it can go again
	if err := c.GiveBack(); err != nil {
		t.Fatal(err)
	}
	for n := range byte(3) {
		expectWhole(t, d, n+1)
	}
}

// TestRecallWhileOpening has a peer opened at the same time: it stays open.
func TestRecallWhileOpening(t *testing.T) {
	for range 100 {
		d := newFakeDevice(wholePeer(1))
		c, _ := evictor(t, d)
		evict(t, c, keyOf(1))
		var calls sync.WaitGroup
		calls.Go(func() {
			if _, err := c.Recall(); err != nil {
				t.Error(err)
			}
		})
		calls.Go(func() {
			if err := c.Open(t.Context(), keyOf(1), asked); err != nil {
				t.Error(err)
			}
		})
		calls.Wait()
		expectWhole(t, d, 1)
	}
}

// TestGiveBackWhileEvicting ends while a peer is on its way off the device: it must be there in the end.
func TestGiveBackWhileEvicting(t *testing.T) {
	d := newFakeDevice(wholePeer(1), wholePeer(2))
	c, file := evictor(t, d)
	reading, goOn := make(chan bool), make(chan bool)
	d.beforeRead = sync.OnceValue(func() error {
		close(reading)
		<-goOn
		return nil
	})
	var calls sync.WaitGroup
	calls.Go(func() { _, _ = c.Evict(t.Context(), keyOf(1)) })
	<-reading
	calls.Go(func() { _, _ = c.Evict(t.Context(), keyOf(2)) })
	calls.Go(func() {
		if err := c.GiveBack(); err != nil {
			t.Error(err)
		}
	})
	close(goOn)
	calls.Wait()
	expectWhole(t, d, 1)
	expectWhole(t, d, 2)
	leaves(t, filepath.Dir(file.path))
}

// TestConcurrentEvictions has one peer opened, closed, evicted and looked at from everywhere, by more than the manager ever
// has at a time. In the end it is whole.
func TestConcurrentEvictions(t *testing.T) {
	d := newFakeDevice(wholePeer(1), wholePeer(2))
	c, file := evictor(t, d)
	const rounds = 300
	var calls sync.WaitGroup
	both := func(call func(lazy.Key) error) {
		for _, key := range []lazy.Key{keyOf(1), keyOf(2)} {
			calls.Go(func() {
				for range rounds {
					if err := call(key); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	look := func(lazy.Key) error {
		begin := time.Now()
		peers, err := c.device.Peers()
		if err != nil {
			return err
		}
		reading, err := c.Observe(begin, peers, anybody)
		if len(reading.Returned)+len(reading.Drifted) > 0 {
			t.Errorf("what the connector has done is taken for that of others: %+v", reading)
		}
		for _, key := range []lazy.Key{keyOf(1), keyOf(2)} {
			known := slices.ContainsFunc(reading.Peers, func(p Peer) bool { return p.Key == key })
			if !known && c.Removed(begin, key) {
				t.Errorf("peer %d is taken for removed", key[0])
			}
		}
		return err
	}
	both(func(key lazy.Key) error { return c.Open(t.Context(), key, egress) })
	both(func(key lazy.Key) error { return c.Close(t.Context(), key) })
	for range 2 {
		both(func(key lazy.Key) error {
			_, err := c.Evict(t.Context(), key)
			if errors.Is(err, ErrUnknownPeer) { // it was away when the device was read, and is back since
				err = nil
			}
			return err
		})
	}
	both(look)
	calls.Wait()
	for n := range byte(2) {
		if err := c.Open(t.Context(), keyOf(n+1), asked); err != nil {
			t.Error(err)
		}
		expectWhole(t, d, n+1)
	}
	leaves(t, filepath.Dir(file.path))
}
