// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"errors"
	"net/netip"
	"testing"
)

func TestPrefixes(t *testing.T) {
	t.Parallel()
	d := newRig(t, Options{})
	good := netip.MustParsePrefix("10.8.0.0/16")
	peer := d.mustAdd()
	for name, bad := range map[string]netip.Prefix{
		"zero":            {},
		"negative length": netip.PrefixFrom(host4, -1),
		"too long":        netip.PrefixFrom(host4, 33),
		"too long, IPv6":  netip.PrefixFrom(host6, 129),
		"IPv4 in IPv6":    netip.MustParsePrefix("::ffff:10.8.0.0/112"),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := d.Add([]netip.Prefix{good, bad}); !errors.Is(err, ErrPrefix) {
				t.Errorf("Add: %v", err)
			}
			if err := d.SetPrefixes(peer, []netip.Prefix{good, bad}); !errors.Is(err, ErrPrefix) {
				t.Errorf("SetPrefixes: %v", err)
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			if slot, found := d.lookup(netip.MustParseAddr("10.8.0.1")); found {
				t.Errorf("the other prefix was given to slot %d", slot)
			}
		})
	}
	t.Run("said twice, with host bits", func(t *testing.T) {
		d.t = t
		id := d.mustAdd(good, netip.MustParsePrefix("10.8.7.6/16"), good)
		counted := d.counts(id, peer)
		packet := udp(hostPort4, netip.MustParseAddrPort("10.8.1.1:1"), "")
		d.run(Egress, packet, skb{})
		counted.expect(Egress, id, 1, len(packet), Stats{})
		if err := d.Remove(id); err != nil {
			t.Fatal(err)
		}
		counted = d.counts(peer)
		d.run(Egress, packet, skb{})
		counted.expect(Egress, 0, 0, 0, Stats{Unrouted: 1})
	})
}

// methods are those that name a peer.
func methods(d *Detector, id ID) map[string]error {
	_, activity := d.Activity(id)
	return map[string]error{
		"Activity":    activity,
		"Arm":         d.Arm(id, true),
		"Open":        d.Open(id),
		"Discard":     d.Discard(id),
		"SetPrefixes": d.SetPrefixes(id, nil),
		"SetRules":    d.SetRules(id, nil),
		"Remove":      d.Remove(id),
	}
}

func TestUnknownPeer(t *testing.T) {
	t.Parallel()
	d := newRig(t, Options{})
	stale := d.mustAdd(single(peer4(2)))
	if err := d.Remove(stale); err != nil {
		t.Fatal(err)
	}
	for range resting {
		if err := d.Remove(d.mustAdd()); err != nil {
			t.Fatal(err)
		}
	}
	gone := d.mustAdd(single(peer4(2)))
	if gone.Slot() != stale.Slot() || gone.Generation() != stale.Generation()+1 {
		t.Fatalf("slot and generation are %s after %s", gone, stale)
	}
	other := d.mustAdd()
	if err := d.Remove(other); err != nil {
		t.Fatal(err)
	}
	for name, id := range map[string]ID{
		"zero": 0, "never given out": newID(other.Slot()+1, 1), "far out": newID(^uint32(0), 1), "removed": other,
		"slot reused": stale, "generation to come": newID(gone.Slot(), gone.Generation()+1),
		"like another, but for bits that none has": gone | 1<<48,
	} {
		for method, err := range methods(d.Detector, id) {
			if !errors.Is(err, ErrUnknownPeer) {
				t.Errorf("%s of %s (%s): %v", method, id, name, err)
			}
		}
	}
	// None of that has touched the peer that has the slot now.
	counted := d.counts(gone)
	packet := udp(hostPort4, peerPort4, "")
	d.run(Egress, packet, skb{})
	counted.expect(Egress, gone, 1, len(packet), Stats{})
	if gate := d.gate(gone); gate != bpfGateGATE_OPEN {
		t.Errorf("its gate is %d", gate)
	}
}

// TestSlots reuses slots, the longest unused first, before it takes new ones, but for those that rest.
func TestSlots(t *testing.T) {
	t.Parallel()
	d := newRig(t, Options{})
	remove := func(slot uint32, generation uint16) {
		t.Helper()
		if err := d.Remove(newID(slot, generation)); err != nil {
			t.Fatal(err)
		}
	}
	for range 6 + resting {
		d.mustAdd()
	}
	unused := []uint32{4, 1, 2}
	for _, slot := range unused {
		remove(slot, 1)
	}
	for slot := range uint32(resting) {
		remove(6+slot, 1)
	}
	for _, slot := range unused {
		if got, want := d.mustAdd(), newID(slot, 2); got != want {
			t.Errorf("peer %s, want %s", got, want)
		}
	}
	if got, want := d.mustAdd(), newID(6+resting, 1); got != want {
		t.Errorf("peer %s, want %s", got, want)
	}
	// Generations begin anew, without 0.
	d.slots[6].generation = 1<<16 - 1
	remove(4, 2)
	if got, want := d.mustAdd(), newID(6, 1); got != want {
		t.Errorf("peer %s, want %s", got, want)
	}
}
