// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

// TestGates takes a packet of either direction to each gate, while packets wait
// before it and while none does.
func TestGates(t *testing.T) {
	t.Parallel()
	const (
		open      = bpfGateGATE_OPEN
		armed     = bpfGateGATE_ARMED
		armedHold = bpfGateGATE_ARMED_HOLD
		wokenHold = bpfGateGATE_WOKEN_HOLD
		hold      = bpfGateGATE_HOLD
		draining  = bpfGateGATE_DRAINING
	)
	d := newRig(t, Options{})
	peer := d.mustAdd(single(peer4(2)))
	for _, test := range []struct {
		gate      bpfGate
		direction Direction
		waiting   bool

		verdict int
		after   bpfGate
		event   bool
	}{
		{open, Egress, false, pass, open, false},
		{open, Egress, true, pass, open, false},
		{open, Ingress, false, pass, open, false},
		{open, Ingress, true, pass, open, false},

		{armed, Egress, false, pass, open, true},
		{armed, Egress, true, pass, open, true},
		{armed, Ingress, false, pass, open, true},
		{armed, Ingress, true, pass, open, true},

		{armedHold, Egress, false, park, wokenHold, true},
		{armedHold, Egress, true, park, wokenHold, true},
		{armedHold, Ingress, false, pass, open, true},
		{armedHold, Ingress, true, pass, hold, true},

		{wokenHold, Egress, false, park, wokenHold, false},
		{wokenHold, Egress, true, park, wokenHold, false},
		{wokenHold, Ingress, false, pass, open, true},
		{wokenHold, Ingress, true, pass, hold, true},

		{hold, Egress, false, park, hold, false},
		{hold, Egress, true, park, hold, false},
		{hold, Ingress, false, pass, hold, false},
		{hold, Ingress, true, pass, hold, false},

		{draining, Egress, false, pass, draining, false},
		{draining, Egress, true, park, draining, false},
		{draining, Ingress, false, pass, draining, false},
		{draining, Ingress, true, pass, draining, false},
	} {
		t.Run(fmt.Sprintf("gate %d %s waiting %t", test.gate, test.direction, test.waiting), func(t *testing.T) {
			d.t = t
			before := bpfPeer{Gate: test.gate, Generation: peer.Generation(), Held: 7, Released: 7}
			if test.waiting {
				before.Released--
			}
			verdict, after := d.step(peer, before, test.direction)
			if verdict != test.verdict || after.Gate != test.after {
				t.Errorf("verdict %d, gate %d; want %d, %d", verdict, after.Gate, test.verdict, test.after)
			}

			want := bpfPeer{Held: before.Held, Released: before.Released}
			switch {
			case test.verdict == park:
				want.Held++
			case test.direction == Egress:
				want.TxPackets = 1
			default:
				want.RxPackets = 1
			}
			got := bpfPeer{Held: after.Held, Released: after.Released, TxPackets: after.TxPackets, RxPackets: after.RxPackets}
			if got != want {
				t.Errorf("counted %+v, want %+v", got, want)
			}

			switch events := d.raised(); {
			case !test.event && len(events) > 0:
				t.Errorf("raised %+v, want nothing", events)
			case test.event && (len(events) != 1 || events[0].ID != peer || events[0].Direction != test.direction):
				t.Errorf("raised %+v, want one event of %s, %s", events, peer, test.direction)
			}
		})
	}
}

// step runs a packet of the peer 10.7.0.2 with this record, and returns what
// the program makes of it before Go can react.
func (d detector) step(peer ID, before bpfPeer, direction Direction) (verdict int, after bpfPeer) {
	d.t.Helper()
	packet := udp(hostPort4, peerPort4, "to the peer")
	if direction == Ingress {
		packet = udp(peerPort4, hostPort4, "from the peer")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	record := d.tables.record(peer.Slot())
	*record = before
	verdict = d.run(direction, packet, skb{})
	return verdict, snapshot(record)
}

// TestGatesOpenedMeanwhile opens a gate while a packet from the peer is about to: what the packet found there is no longer so.
func TestGatesOpenedMeanwhile(t *testing.T) {
	t.Parallel()
	d := newRig(t, Options{})
	peer := d.mustAdd(single(peer4(2)))
	var packets sync.WaitGroup
	defer packets.Wait()
	var stop atomic.Bool
	defer stop.Store(true)
	packets.Go(func() {
		for options := (&ebpf.RunOptions{Data: udp(peerPort4, hostPort4, "from the peer"), Repeat: 1000}); !stop.Load(); {
			if _, err := d.tables.PeerIngress.Run(options); err != nil {
				t.Error(err)
				return
			}
		}
	})
	go func() {
		for range d.Events() { // until it is closed
		}
	}()
	record := d.tables.record(peer.Slot())
	for round := range 2000 {
		d.mu.Lock()
		storeGate(record, bpfGateGATE_WOKEN_HOLD)
		for range round % 100 {
			loadGate(record)
		}
		storeGate(record, bpfGateGATE_DRAINING)
		// When the next packet is through, so is the one that was there.
		for deadline, through := time.Now().Add(patience), atomic.LoadUint64(&record.RxPackets)+2; atomic.LoadUint64(&record.RxPackets) < through; time.Sleep(time.Microsecond) {
			if time.Now().After(deadline) || t.Failed() {
				d.mu.Unlock()
				t.Fatal("no packet comes")
			}
		}
		gate := loadGate(record)
		d.mu.Unlock()
		if gate != bpfGateGATE_DRAINING {
			t.Fatalf("round %d: gate %d", round, gate)
		}
	}
}

// TestGatesRingFull finds the ring buffer full: gates stay as they are until
// there is room again.
func TestGatesRingFull(t *testing.T) {
	t.Parallel()
	d := newRig(t, Options{})
	peer := d.mustAdd(single(peer4(2)))
	record := func(gate bpfGate) bpfPeer { return bpfPeer{Gate: gate, Generation: peer.Generation()} }

	// Nobody takes the events: the channel fills up, then the ring buffer.
	const most = 1 << 15
	raised := 0
	for d.mustStats().EventsLost == 0 {
		if raised++; raised > most {
			t.Fatal("the ring buffer does not fill up")
		}
		d.step(peer, record(bpfGateGATE_ARMED), Egress)
	}
	raised-- // the last one was lost
	lost := uint64(1)

	for _, gate := range []bpfGate{bpfGateGATE_ARMED, bpfGateGATE_ARMED_HOLD, bpfGateGATE_WOKEN_HOLD} {
		for _, direction := range []Direction{Egress, Ingress} {
			_, after := d.step(peer, record(gate), direction)
			if after.Gate != gate {
				t.Errorf("gate %d, %s: is %d after an event that was lost", gate, direction, after.Gate)
			}
			if gate != bpfGateGATE_WOKEN_HOLD || direction == Ingress {
				lost++
			}
			if got := d.mustStats().EventsLost; got != lost {
				t.Errorf("gate %d, %s: %d events lost, want %d", gate, direction, got, lost)
			}
		}
	}

	for range raised {
		if event := d.nextEvent(); event.ID != peer {
			t.Fatal("event of", event.ID)
		}
	}
	if _, after := d.step(peer, record(bpfGateGATE_ARMED), Egress); after.Gate != bpfGateGATE_OPEN {
		t.Errorf("with room again the gate is %d", after.Gate)
	}
	if events := d.raised(); len(events) != 1 {
		t.Errorf("with room again: raised %+v, want one event", events)
	}
	if got := d.mustStats().EventsLost; got != lost {
		t.Errorf("with room again: %d events lost, want %d", got, lost)
	}
}
