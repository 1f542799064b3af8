// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"net/netip"
	"testing"
)

// Bugs that others shipped, by their numbers in the list that is kept with the
// design. Those of the state machine are in pkg/lazy.

// Bug 9: a held first packet survived Close and was replayed at the next wake.
// Neither closing, nor removing, nor giving up leaves any.
func TestBug09HeldPacketsSurviveNothing(t *testing.T) {
	w := newTunnel(t, Options{})
	given, removed := w.newHeld(), w.newHeld()
	w.send(given.v4, "given up")
	w.send(removed.v4, "removed")
	w.park()
	if err := w.d.Discard(given.id); err != nil {
		t.Fatal(err)
	}
	if err := w.d.Remove(removed.id); err != nil {
		t.Fatal(err)
	}
	again := w.d.mustAdd(single(removed.v4)) // in the same slot
	for _, id := range []ID{given.id, again} {
		w.d.mustArm(id, true)
	}
	w.send(given.v4, "new")
	w.send(removed.v4, "new, too")
	for _, id := range []ID{given.id, again} {
		w.d.mustOpen(id)
	}
	w.dev.expect("new", "new, too")
	w.dev.nothing()

	last := w.newHeld()
	w.send(last.v4, "when it closes")
	w.park()
	if err := w.d.Close(); err != nil {
		t.Fatal(err)
	}
	w.dev.expect("when it closes") // at once, and not later
	w.d = newDetector(t, Options{Interface: w.dev.name})
	next := w.d.mustAdd(single(last.v4))
	w.d.mustArm(next, true)
	w.d.mustOpen(next)
	w.dev.nothing()
}

// Bug 12: IPv6 traffic did not wake.
func TestBug12IPv6Wakes(t *testing.T) {
	t.Parallel()
	d := newRig(t, Options{})
	peer := d.mustAdd(single(peerPort6))
	for _, hold := range []bool{false, true} {
		for _, direction := range []Direction{Egress, Ingress} {
			d.mustArm(peer, hold)
			packet := udp(hostPort6, peerPort6, "to the peer")
			if direction == Ingress {
				packet = udp(peerPort6, hostPort6, "from the peer")
			}
			d.run(direction, packet, skb{})
			if events := d.raised(); len(events) != 1 || events[0].ID != peer || events[0].Direction != direction {
				t.Errorf("hold %t, %s: raised %+v, want one event", hold, direction, events)
			}
		}
	}
}

// Bug 16: two members of a group shared a prefix: last write won, removing the
// owner un-routed it. Here it is the next one's, and so are its packets.
func TestBug16SharedPrefixOutlivesItsOwner(t *testing.T) {
	t.Parallel()
	d := newRig(t, Options{})
	shared := netip.PrefixFrom(peerPort4.Addr(), 24).Masked()
	members := []ID{d.mustAdd(shared), d.mustAdd(shared), d.mustAdd(shared)}
	for len(members) > 0 {
		for _, member := range members {
			d.mustArm(member, false)
		}
		owner := members[len(members)-1]
		d.run(Egress, udp(hostPort4, peerPort4, "to whom?"), skb{})
		if events := d.raised(); len(events) != 1 || events[0].ID != owner {
			t.Fatalf("of %d members raised %+v, want one event of %s", len(members), events, owner)
		}
		if err := d.Remove(owner); err != nil {
			t.Fatal(err)
		}
		members = members[:len(members)-1]
	}
	d.run(Egress, udp(hostPort4, peerPort4, "to nobody"), skb{})
	if events := d.raised(); len(events) > 0 {
		t.Errorf("a prefix of nobody has raised %+v", events)
	}
}

// Bug 19: retransmitted SYNs in the hold buffer were replayed as duplicates.
func TestBug19RetransmittedSYNsAreHeldOnce(t *testing.T) {
	w := newTunnel(t, Options{})
	holdSYN(w)
	w.dev.nothing()
	w.expectEmpty()
}
