// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestHold holds packets of several peers of one device.
func TestHold(t *testing.T) {
	tests := map[string]func(*tunnel){
		"opened":                 holdOpened,
		"opened by an answer":    holdAnswered,
		"answered, not sent to":  holdAnsweredEarly,
		"opened without packets": holdNothing,
		"armed again":            holdArmedAgain,
		"armed again, to pass":   holdArmedToPass,
		"armed on its way":       holdArmedOnItsWay,
		"discarded":              holdDiscarded,
		"removed":                holdRemoved,
		"connection attempts":    holdSYN,
		"the last attempt":       holdLastSYN,
		"does not wake":          holdNotWaking,
		"fragments":              holdFragments,
		"prefix moved":           holdPrefixMoved,
	}
	onEachHook(t, func(t *testing.T, hook Attach) {
		w := newTunnel(t, Options{Attach: hook})
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				w.in(t)
				test(w)
				w.dev.nothing()
				w.expectEmpty()
			})
		}
	})
}

func holdOpened(w *tunnel) {
	held, other := w.newHeld(), w.newPeer()
	var payloads []string
	for i := range 50 {
		to := held.v4
		if i%3 == 0 {
			to = held.v6
		}
		payloads = append(payloads, fmt.Sprint("packet ", i))
		w.send(to, payloads[i])
	}
	w.send(other.v4, "of another peer")
	w.dev.expect("of another peer")
	w.expectHeld(held, Activity{Held: 50})

	w.d.mustOpen(held.id)
	w.dev.expect(payloads...)
	w.expectHeld(held, Activity{TxPackets: 50, Held: 50, Replayed: 50})
	w.send(held.v4, "afterwards")
	w.dev.expect("afterwards")
	w.expectHeld(held, Activity{TxPackets: 51, Held: 50, Replayed: 50})
	if events := w.d.raised(); len(events) != 1 || events[0].ID != held.id || events[0].Direction != Egress {
		w.t.Errorf("raised %+v, want one event of %s", events, held.id)
	}
}

// holdAnswered lets the peer show that WireGuard has a session with it: what is
// held goes first.
func holdAnswered(w *tunnel) {
	p := w.newHeld()
	w.send(p.v4, "one", "two")
	w.dev.answer(p.v4, "here I am")
	for _, direction := range []Direction{Egress, Ingress} {
		if event := w.d.nextEvent(); event.ID != p.id || event.Direction != direction {
			w.t.Errorf("event %+v, want %s", event, direction)
		}
	}
	w.send(p.v4, "three")
	w.dev.expect("one", "two", "three")
	w.expectHeld(p, Activity{TxPackets: 3, RxPackets: 1, Held: 2, Replayed: 2})
	if events := w.d.raised(); len(events) > 0 {
		w.t.Errorf("raised %+v as well", events)
	}
}

// holdAnsweredEarly has the gate opened by the program itself.
func holdAnsweredEarly(w *tunnel) {
	p := w.newHeld()
	w.dev.answer(p.v6, "here I am")
	w.send(p.v6, "a reply")
	w.dev.expect("a reply")
	w.expectHeld(p, Activity{TxPackets: 1, RxPackets: 1})
	if events := w.d.raised(); len(events) != 1 || events[0].Direction != Ingress {
		w.t.Errorf("raised %+v, want one event, ingress", events)
	}
}

func holdNothing(w *tunnel) {
	p := w.newHeld()
	w.d.mustOpen(p.id)
	w.send(p.v4, "passes")
	w.dev.expect("passes")
	w.d.mustOpen(p.id) // it is open
	w.expectHeld(p, Activity{TxPackets: 1})
	if events := w.d.raised(); len(events) > 0 {
		w.t.Errorf("a peer that was opened has raised %+v", events)
	}
}

// holdArmedAgain arms a peer of which packets wait: they must neither be
// forgotten nor stay for the next time.
func holdArmedAgain(w *tunnel) {
	p := w.newHeld()
	w.send(p.v4, "one")
	w.park()
	w.d.mustArm(p.id, true)
	w.d.mustOpen(p.id)
	w.dev.expect("one")

	w.d.mustArm(p.id, true)
	w.send(p.v4, "two")
	w.d.mustOpen(p.id)
	w.dev.expect("two")
	w.expectHeld(p, Activity{TxPackets: 2, Held: 2, Replayed: 2})
	if events := w.d.raised(); len(events) != 2 {
		w.t.Errorf("raised %+v, want two events", events)
	}
}

// holdArmedToPass arms a peer without hold while packets wait: the next one
// must not overtake them.
func holdArmedToPass(w *tunnel) {
	p := w.newHeld()
	w.send(p.v4, "one")
	w.d.mustArm(p.id, false)
	w.send(p.v4, "two")
	w.d.mustOpen(p.id)
	w.send(p.v4, "three")
	w.dev.expect("one", "two", "three")
	w.expectHeld(p, Activity{TxPackets: 3, Held: 2, Replayed: 2})
	w.d.raised()
}

// holdArmedOnItsWay arms a peer that has answered while a packet to it is on the
// parking device, for a waking that is over. It wakes the peer once more.
func holdArmedOnItsWay(w *tunnel) {
	p := w.newHeld()
	resume := w.pause()
	w.send(p.v4, "on its way", "and another")
	w.d.nextEvent()
	w.dev.answer(p.v4, "here I am")
	for start := time.Now(); w.d.gate(p.id) != bpfGateGATE_DRAINING && time.Since(start) < patience; { // as openAnswered leaves it
		runtime.Gosched()
	}
	before := time.Now()
	w.d.mustArm(p.id, true)
	resume()

	got, other := w.d.nextEvent(), w.d.nextEvent()
	if got.Direction == Ingress { // that of the answer, which came before or comes after
		got, other = other, got
	}
	want := Event{
		ID: p.id, Direction: Egress, Time: got.Time, UID: NoUID,
		Flow: Flow{unix.IPPROTO_UDP, w.dev.host(p.v4), p.v4}, Length: header4 + 8 + len("on its way"),
	}
	if got != want || got.Time.Before(before) || other.Direction != Ingress {
		w.t.Errorf("\ngot  %+v, %+v\nwant %+v", got, other, want)
	}
	if events := w.d.raised(); len(events) > 0 {
		w.t.Errorf("raised %+v as well", events)
	}
	w.d.mustOpen(p.id)
	w.dev.expect("on its way", "and another")
	w.expectHeld(p, Activity{TxPackets: 2, RxPackets: 1, Held: 2, Replayed: 2})
}

func holdDiscarded(w *tunnel) {
	p := w.newHeld()
	w.send(p.v4, "one", "two")
	if err := w.d.Discard(p.id); err != nil {
		w.t.Fatal(err)
	}
	w.send(p.v4, "three")
	w.dev.expect("three")
	w.expectHeld(p, Activity{TxPackets: 1, Held: 2, Dropped: 2})

	w.d.mustArm(p.id, true)
	w.send(p.v4, "four")
	w.d.mustOpen(p.id)
	w.dev.expect("four")
	w.d.raised()
}

// holdRemoved gives the slot of a peer of which packets wait to one of the same
// address: they are not its own.
func holdRemoved(w *tunnel) {
	p := w.newHeld()
	w.send(p.v4, "of the peer before")
	w.park()
	if err := w.d.Remove(p.id); err != nil {
		w.t.Fatal(err)
	}
	again := w.d.mustAdd(single(p.v4))
	for again.Slot() != p.id.Slot() { // slots are reused, the longest unused first
		if err := w.d.Remove(again); err != nil {
			w.t.Fatal(err)
		}
		again = w.d.mustAdd(single(p.v4))
	}
	w.d.mustArm(again, true)
	w.send(p.v4, "of the new one")
	w.d.mustOpen(again)
	w.dev.expect("of the new one")
	w.expectHeld(peer{id: again}, Activity{TxPackets: 1, Held: 1, Replayed: 1})
	w.d.raised()
}

// holdSYN has TCP send its SYN again and again, as it does while nobody
// answers.
func holdSYN(w *tunnel) {
	p := w.newHeld()
	raw, err := newReplayer(w.dev.index) // not the one that the detector knows
	if err != nil {
		w.t.Fatal(err)
	}
	defer raw.close()
	first, second := netip.AddrPortFrom(host4, 1001), netip.AddrPortFrom(host4, 1002)
	for _, packet := range [][]byte{
		tcp(first, p.v4, tcpSYN), tcp(first, p.v4, tcpSYN), tcp(second, p.v4, tcpSYN), tcp(first, p.v4, tcpSYN),
		udp(first, p.v4, "once"), udp(first, p.v4, "twice"),
	} {
		if err := raw.send(heldPacket{bytes: packet, protocol: unix.ETH_P_IP}); err != nil {
			w.t.Fatal(err)
		}
	}
	w.park()
	w.d.mustOpen(p.id)
	for i, want := range []Flow{
		{unix.IPPROTO_TCP, first, p.v4}, {unix.IPPROTO_TCP, second, p.v4}, {unix.IPPROTO_UDP, first, p.v4}, {unix.IPPROTO_UDP, first, p.v4},
	} {
		if got, _ := parse(w.dev.next()); got != want {
			w.t.Errorf("packet %d is %s, want %s", i, got, want)
		}
	}
	w.expectHeld(p, Activity{TxPackets: 4, Held: 6, Replayed: 4, Dropped: 2})
	w.d.raised()
}

// holdLastSYN has TCP send a SYN again after the first one was held so long that
// it is not worth sending, and a port be used for another connection.
func holdLastSYN(w *tunnel) {
	p := w.newHeld()
	raw, err := newReplayer(w.dev.index)
	if err != nil {
		w.t.Fatal(err)
	}
	defer raw.close()
	send := func(from netip.AddrPort, sequence uint32, data string) {
		w.t.Helper()
		if err := raw.send(heldPacket{bytes: tcpSegment(from, p.v4, tcpSYN, sequence, 0, data), protocol: unix.ETH_P_IP}); err != nil {
			w.t.Fatal(err)
		}
		w.park()
	}
	first, second := netip.AddrPortFrom(host4, 1001), netip.AddrPortFrom(host4, 1002)
	send(first, 100, "data that are early")
	err = w.d.parking.do(func(parking *parking) {
		parking.queue(p.id).packets[0].at = time.Now().Add(-parking.limits.Timeout)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	send(second, 300, "")
	send(first, 100, "")
	send(second, 400, "")
	w.d.mustOpen(p.id)
	for _, want := range []struct {
		from     netip.AddrPort
		sequence uint32
	}{{first, 100}, {second, 400}} {
		flow, segment := parse(w.dev.next())
		if sequence := binary.BigEndian.Uint32(segment[4:]); flow.Source != want.from || sequence != want.sequence {
			w.t.Errorf("%s, %d came out, want %d from %s", flow, sequence, want.sequence, want.from)
		}
	}
	w.expectHeld(p, Activity{TxPackets: 2, Held: 4, Replayed: 2, Dropped: 2})
	w.d.raised()
}

// holdNotWaking has packets that do not wake a peer: they pass until another one
// does, and then wait in their places.
func holdNotWaking(w *tunnel) {
	p := w.newHeld()
	query := netip.AddrPortFrom(p.v4.Addr(), 53)
	if err := w.d.SetRules(p.id, []Rule{{Effect: KeepsAwake, Protocol: unix.IPPROTO_UDP, Ports: PortRange{53, 53}}}); err != nil {
		w.t.Fatal(err)
	}
	w.send(query, "passes")
	w.dev.answer(query, "wakes nobody, either")
	w.dev.expect("passes")
	w.expectHeld(p, Activity{TxPackets: 1, RxPackets: 1})
	if events := w.d.raised(); len(events) > 0 {
		w.t.Errorf("raised %+v", events)
	}
	w.send(query, "passes again")
	w.send(p.v4, "wakes")
	w.send(query, "waits")
	w.send(p.v4, "waits, too")
	if events := w.d.raised(); len(events) != 1 || events[0].Flow.Destination != p.v4 {
		w.t.Errorf("raised %+v, want one event, to %s", events, p.v4)
	}
	w.d.mustOpen(p.id)
	w.dev.expect("passes again", "wakes", "waits", "waits, too")
	w.expectHeld(p, Activity{TxPackets: 5, RxPackets: 1, Held: 3, Replayed: 3})
}

// holdFragments sends a datagram that is larger than the device's MTU.
func holdFragments(w *tunnel) {
	const fragments = 3
	p := w.newHeld()
	w.send(p.v4, string(make([]byte, 4000)))
	w.d.mustOpen(p.id)
	for i := range fragments {
		flow, _ := parse(w.dev.next())
		want := Flow{unix.IPPROTO_UDP, w.dev.host(p.v4), p.v4}
		if i > 0 { // only the first one has ports
			want.Source, want.Destination = noPort(want.Source.Addr()), noPort(want.Destination.Addr())
		}
		if flow != want {
			w.t.Errorf("fragment %d is %s, want %s", i, flow, want)
		}
	}
	w.expectHeld(p, Activity{TxPackets: fragments, Held: fragments, Replayed: fragments})
	w.d.raised()
}

// holdPrefixMoved gives an address to another peer while packets to it are
// held.
func holdPrefixMoved(w *tunnel) {
	from, to := w.newHeld(), w.newHeld()
	w.send(from.v4, "before")
	w.park()
	if err := w.d.SetPrefixes(to.id, []netip.Prefix{single(to.v4), single(from.v4)}); err != nil {
		w.t.Fatal(err)
	}
	w.send(from.v4, "after")
	w.d.mustOpen(to.id)
	w.dev.expect("after")
	w.d.mustOpen(from.id)
	w.dev.expect("before")
	w.expectHeld(from, Activity{Held: 1, Replayed: 1})
	w.d.raised()
}

// expectEmpty says that no queue has anything, nor is thought to have.
func (w *tunnel) expectEmpty() {
	w.t.Helper()
	bytes := 0
	if err := w.d.parking.do(func(p *parking) { bytes = p.bytes }); err != nil {
		w.t.Fatal(err)
	}
	if bytes != 0 {
		w.t.Errorf("%d bytes are said to be held", bytes)
	}
}

// expectHeld compares the peer's packets, not its bytes and times.
func (w *tunnel) expectHeld(p peer, want Activity) {
	w.t.Helper()
	a := w.d.mustActivity(p.id)
	got := Activity{TxPackets: a.TxPackets, RxPackets: a.RxPackets, Held: a.Held, Replayed: a.Replayed, Dropped: a.Dropped}
	if got != want {
		w.t.Errorf("\ngot  %+v\nwant %+v", got, want)
	}
}
