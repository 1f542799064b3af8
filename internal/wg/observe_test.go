// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// look reads the device and shows it to the connector.
func look(t *testing.T, c *Connector) Reading {
	t.Helper()
	begin := time.Now()
	peers, err := c.device.Peers()
	if err != nil {
		t.Fatal(err)
	}
	reading, err := c.Observe(begin, peers, anybody)
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(reading.Peers, func(a, b Peer) int { return int(a.Key[0]) - int(b.Key[0]) })
	return reading
}

// TestObserveEvicted sees evicted peers as they will be.
func TestObserveEvicted(t *testing.T) {
	d := newFakeDevice(wholePeer(1), wholePeer(2))
	c, _ := evictor(t, d)
	before := look(t, c)
	evict(t, c, keyOf(1))
	after := look(t, c)
	before.Peers[0].Keepalive = every // as it will be
	if fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("reading\n%+v, want\n%+v", after, before)
	}
	if c.Removed(time.Now(), keyOf(1)) {
		t.Error("it is said to have been removed")
	}
}

// TestObserveReturned has somebody else put an evicted peer back.
func TestObserveReturned(t *testing.T) {
	for _, keepalive := range []time.Duration{0, every, time.Minute} {
		d := newFakeDevice(wholePeer(1))
		c, file := evictor(t, d)
		early, old := time.Now(), wholePeer(1)
		evict(t, c, keyOf(1))
		theirs := wgtypes.Peer{PublicKey: wgtypes.Key(keyOf(1)), PersistentKeepaliveInterval: keepalive, AllowedIPs: ipNets(netip.MustParsePrefix("10.7.0.0/16"))}
		d.peers[theirs.PublicKey] = theirs

		// What was read before the eviction says nothing.
		if reading, err := c.Observe(early, []Peer{peerOf(&old)}, anybody); err != nil || len(reading.Returned)+len(reading.Drifted) > 0 || !c.Evicted(keyOf(1)) {
			t.Errorf("an old reading: %+v, %v", reading, err)
		}
		reading := look(t, c)
		if !slices.Equal(reading.Returned, []lazy.Key{keyOf(1)}) || (len(reading.Drifted) == 1) != (keepalive != 0) ||
			len(reading.Peers) != 1 || len(reading.Peers[0].AllowedIPs) != 1 {
			t.Errorf("reading %+v", reading)
		}
		if c.Evicted(keyOf(1)) || file.Len() > 0 {
			t.Error("it is said to be evicted")
		}
		if again := look(t, c); len(again.Returned)+len(again.Drifted) > 0 {
			t.Errorf("reading again %+v", again)
		}
		// It sleeps on, and is opened as they want it; with off they say nothing of it.
		if err := c.Settle(keyOf(1)); err != nil {
			t.Fatal(err)
		}
		expectPeer(t, d, wgtypes.Peer{PublicKey: theirs.PublicKey, AllowedIPs: theirs.AllowedIPs})
		if err := c.Open(t.Context(), keyOf(1), asked); err != nil {
			t.Fatal(err)
		}
		if keepalive != 0 {
			expectPeer(t, d, theirs)
		}
	}
}

// TestObserveOldReadingOfPutBack has the device read while the peer was away, and looked at when it is back.
func TestObserveOldReadingOfPutBack(t *testing.T) {
	d := newFakeDevice(wholePeer(1))
	c, _ := evictor(t, d)
	evict(t, c, keyOf(1))
	begin := time.Now()
	if err := c.Open(t.Context(), keyOf(1), egress); err != nil {
		t.Fatal(err)
	}
	reading, err := c.Observe(begin, nil, anybody)
	if err != nil || len(reading.Peers) > 0 || c.Removed(begin, keyOf(1)) {
		t.Errorf("reading %+v, %v; removed: %v", reading, err, c.Removed(begin, keyOf(1)))
	}
	if !c.Removed(time.Now(), keyOf(1)) {
		t.Error("a reading of later does not have it, and it is not taken for removed")
	}
}

// TestEvictedYields has others get allowed IPs of an evicted peer: it must not take them back, whoever puts it there.
func TestEvictedYields(t *testing.T) {
	for name, putBack := range map[string]func(*Connector, *EvictedFile) error{
		"open":      func(c *Connector, _ *EvictedFile) error { return c.Open(t.Context(), keyOf(1), egress) },
		"give back": func(c *Connector, _ *EvictedFile) error { return c.GiveBack() },
		"restore": func(c *Connector, f *EvictedFile) error {
			_, err := load(t, f.path, c.device).PutBack(c.device, true)
			return err
		},
	} {
		d := newFakeDevice(wholePeer(1), wholePeer(2))
		c, file := evictor(t, d)
		evict(t, c, keyOf(1))
		whole := wholePeer(1)
		d.change(wgtypes.PeerConfig{PublicKey: wgtypes.Key(keyOf(2)), AllowedIPs: whole.AllowedIPs[:1]})
		if name == "open" { // who restores looks for himself
			if got := look(t, c).Peers[0].AllowedIPs; len(got) != 1 || got[0].String() != whole.AllowedIPs[1].String() {
				t.Errorf("allowed IPs %v", got)
			}
			if loaded := load(t, file.path, noDevice); len(loaded.live[keyOf(1)].AllowedIPs) != 1 {
				t.Error("the file has them still")
			}
		}
		before, _ := d.get(keyOf(2))
		if err := putBack(c, file); err != nil {
			t.Fatal(err)
		}
		whole.AllowedIPs = whole.AllowedIPs[1:]
		expectPeer(t, d, whole)
		if after, _ := d.get(keyOf(2)); len(after.AllowedIPs) != 3 || len(after.AllowedIPs) != len(before.AllowedIPs) {
			t.Errorf("%s: the other has lost some of %v: %v", name, before.AllowedIPs, after.AllowedIPs)
		}
	}
}

// TestObserveUnsettled has the device refuse to turn a keepalive off: that is tried again.
func TestObserveUnsettled(t *testing.T) {
	r := newRecorder(t)
	c := newConnector(r, nil, keyOf(1), keyOf(2))
	r.check = func() error { return errBroken }
	if err := c.CloseAll([]lazy.Key{keyOf(1)}); err == nil {
		t.Fatal("it is closed")
	}
	r.check = nil
	reading, err := c.Observe(time.Now(), []Peer{r.peer(keyOf(1)), r.peer(keyOf(2))}, anybody)
	if err != nil || !slices.Equal(reading.Unsettled, []lazy.Key{keyOf(1)}) || len(reading.Drifted) > 0 {
		t.Errorf("reading %+v, %v", reading, err)
	}
	if err := c.Settle(keyOf(1)); err != nil {
		t.Error(err)
	}
	if got, want := r.take(), []string{"peer 1 0s"}; !slices.Equal(got, want) {
		t.Errorf("messages %q, want %q", got, want)
	}
}
