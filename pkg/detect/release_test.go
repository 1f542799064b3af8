// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestOpenKeepsOrder opens a peer again and again while a sender goes on
// sending to it: packet for packet must come out.
func TestOpenKeepsOrder(t *testing.T) {
	onEachHook(t, func(t *testing.T, hook Attach) {
		const rounds, packets = 10, 300
		w := newTunnel(t, Options{Attach: hook, Hold: Hold{Packets: packets, Bytes: 1 << 20}})
		p := w.newPeer()
		for round := range rounds {
			w.d.mustArm(p.id, true)
			reached := make(chan struct{})
			var sender sync.WaitGroup
			sender.Go(func() {
				for i := range packets {
					w.send(p.v4, fmt.Sprint(i))
					if i == round*packets/rounds {
						close(reached)
					}
				}
			})
			<-reached
			w.d.mustOpen(p.id)
			sender.Wait()
			for i := range packets {
				if got := data(w.dev.next()); got != fmt.Sprint(i) {
					t.Fatalf("round %d: packet %s came out, want %d", round, got, i)
				}
			}
		}
		a := w.d.mustActivity(p.id)
		if a.TxPackets != rounds*packets || a.Held == 0 || a.Held != a.Replayed {
			t.Errorf("of %d packets: %+v", rounds*packets, a)
		}
	})
}

// TestOpenUnderFlood opens a peer while more is sent to it than can be
// replayed: it must open all the same, and soon.
func TestOpenUnderFlood(t *testing.T) {
	w := newTunnel(t, Options{})
	p := w.newHeld()
	var stop atomic.Bool
	var senders sync.WaitGroup
	defer senders.Wait()
	defer stop.Store(true)
	reached := make(chan struct{})
	for i := range 8 {
		senders.Go(func() {
			for sent := 0; !stop.Load(); sent++ {
				w.send(p.v4, "flood")
				if i == 0 && sent == 1000 {
					close(reached)
				}
			}
		})
	}
	<-reached
	opened := make(chan error)
	go func() { opened <- w.d.Open(p.id) }()
	select {
	case err := <-opened:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatal("Open has not returned")
	}
	stop.Store(true)
	senders.Wait()
	a := w.d.mustActivity(p.id)
	if a.Held != a.Replayed+a.Dropped {
		t.Errorf("of all packets: %+v", a)
	}
	w.send(p.v4, "passes")
	if again := w.d.mustActivity(p.id); again.Held != a.Held {
		t.Error("Open has returned, and a packet was held")
	}
}

// TestOpenAfterLoss opens a peer of which fewer packets came to the parking
// device than the program has sent there, and then one of which more came, as
// happens when a prefix moves between peers meanwhile. The gate must not wait
// for them for ever.
func TestOpenAfterLoss(t *testing.T) {
	w := newTunnel(t, Options{})
	loser, winner := w.newHeld(), w.newHeld()
	resume := w.pause()
	w.send(loser.v4, "to whom?")
	w.d.mu.Lock()
	w.d.tables.record(loser.id.Slot()).Held += 4
	w.d.mu.Unlock()
	both := []peer{winner, loser}
	if err := w.d.SetPrefixes(winner.id, []netip.Prefix{single(winner.v4), single(loser.v4)}); err != nil {
		t.Fatal(err)
	}
	resume()
	w.send(winner.v4, "to the winner")
	w.park()
	for _, p := range both {
		w.d.mustOpen(p.id)
	}
	w.dev.expect("to whom?", "to the winner")
	w.expectHeld(loser, Activity{Held: 5, Dropped: 5})
	w.expectHeld(winner, Activity{TxPackets: 2, Held: 2, Replayed: 2})
	for _, p := range both { // the books are closed: there is nothing to wait for
		w.d.mustArm(p.id, true)
		w.d.mustOpen(p.id)
		if gate := w.d.gate(p.id); gate != bpfGateGATE_OPEN {
			t.Errorf("gate %d after another round", gate)
		}
	}
}

// TestOpenByStaleAnswer lets an ingress event wait in the ring buffer while its
// peer is armed again: what the event has to say belongs to the arming before.
func TestOpenByStaleAnswer(t *testing.T) {
	for _, hold := range []bool{false, true} {
		t.Run(fmt.Sprint("hold ", hold), func(t *testing.T) {
			t.Parallel()
			d := newRig(t, Options{})
			crowd, p := d.mustAdd(single(peer4(3))), d.mustAdd(single(peer4(2)))
			// One event more than the channel has room for occupies the reader.
			events := cap(d.events) + 1
			for range events {
				d.mustArm(crowd, false)
				d.run(Egress, udp(hostPort4, peer4(3), ""), skb{})
			}
			d.mustArm(p, hold)
			d.run(Ingress, udp(peerPort4, hostPort4, ""), skb{})
			d.mustArm(p, hold)
			want := d.gate(p)
			for range events {
				d.nextEvent()
			}
			if event := d.nextEvent(); event.ID != p || event.Direction != Ingress {
				t.Errorf("event %+v", event)
			}
			if got := d.gate(p); got != want {
				t.Errorf("gate %d, was armed as %d", got, want)
			}
		})
	}
}

// TestHoldGrow grows the tables while packets wait: they, and the gate, are as
// before.
func TestHoldGrow(t *testing.T) {
	w := newTunnel(t, Options{})
	p := w.newHeld()
	w.send(p.v4, "before")
	for i := range minCapacity {
		w.d.mustAdd(single(peer4(1000 + i)))
	}
	w.send(p.v4, "after")
	w.d.mustOpen(p.id)
	w.dev.expect("before", "after")
	w.expectHeld(p, Activity{TxPackets: 2, Held: 2, Replayed: 2})
}
