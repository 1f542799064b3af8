// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

// detector is a Detector under test, with methods that fail the test.
type detector struct {
	*Detector
	t testing.TB
}

// newDetector makes a detector for the length of a test.
func newDetector(t testing.TB, options Options) detector {
	t.Helper()
	d, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error("Close:", err)
		}
	})
	return detector{d, t}
}

// newRig makes a detector whose device is down, so that its programs run only
// when the test runs them. What they hold exists as a number only. Tests of
// rigs may run in parallel: the device has no addresses.
func newRig(t testing.TB, options Options) detector {
	t.Helper()
	options.Interface = openDevice(t, 0).name
	return newDetector(t, options)
}

func (d detector) mustAdd(prefixes ...netip.Prefix) ID {
	d.t.Helper()
	id, err := d.Add(prefixes)
	if err != nil {
		d.t.Fatal(err)
	}
	return id
}

func (d detector) mustArm(id ID, hold bool) {
	d.t.Helper()
	if err := d.Arm(id, hold); err != nil {
		d.t.Fatal(err)
	}
}

func (d detector) mustOpen(id ID) {
	d.t.Helper()
	if err := d.Open(id); err != nil {
		d.t.Fatal(err)
	}
}

func (d detector) mustActivity(id ID) Activity {
	d.t.Helper()
	a, err := d.Activity(id)
	if err != nil {
		d.t.Fatal(err)
	}
	return a
}

func (d detector) mustStats() Stats {
	d.t.Helper()
	s, err := d.Stats()
	if err != nil {
		d.t.Fatal(err)
	}
	return s
}

// nextEvent waits for an event.
func (d detector) nextEvent() Event {
	d.t.Helper()
	select {
	case event, ok := <-d.Events():
		if !ok {
			d.t.Fatal("Events is closed")
		}
		return event
	case <-time.After(patience):
		d.t.Fatal("no event")
	}
	panic("unreachable")
}

// raised returns the events that were raised and not taken, maybe none: those
// before the event of one more peer.
func (d detector) raised() []Event {
	d.t.Helper()
	address := netip.MustParseAddrPort("192.0.2.1:9")
	last := d.mustAdd(single(address))
	d.mustArm(last, false)
	d.run(Egress, udp(netip.AddrPortFrom(host4, 9), address, ""), skb{})
	var events []Event
	for {
		event := d.nextEvent()
		if event.ID == last {
			break
		}
		events = append(events, event)
	}
	if err := d.Remove(last); err != nil {
		d.t.Fatal(err)
	}
	return events
}

// What the programs say of a packet.
const (
	pass = -1 // TC_ACT_UNSPEC
	park = 7  // TC_ACT_REDIRECT
)

// skb is what the kernel lets a test run say of a packet: a struct __sk_buff,
// all other fields zero.
type skb struct {
	_       [8]byte
	Mark    uint32
	_       [152]byte
	GSOSegs uint32
	_       [8]byte
	GSOSize uint32
	_       [12]byte
}

// run passes a packet through the program of a hook, by BPF_PROG_TEST_RUN.
func (d detector) run(direction Direction, packet []byte, context skb) int {
	d.t.Helper()
	program := d.tables.PeerEgress
	if direction == Ingress {
		program = d.tables.PeerIngress
	}
	verdict, err := program.Run(&ebpf.RunOptions{Data: packet, Context: context})
	if err != nil {
		d.t.Fatalf("run %s program on a packet of %d bytes: %v", direction, len(packet), err)
	}
	return int(int32(verdict))
}

// gate reads a peer's gate.
func (d detector) gate(id ID) bpfGate {
	d.mu.Lock()
	defer d.mu.Unlock()
	return loadGate(d.tables.record(id.Slot()))
}
