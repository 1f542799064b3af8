// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

// fakeDetector is a detector in memory. It has the gates and counters that the
// BPF programs share with user space, and send is a packet on the device.
type fakeDetector struct {
	events chan detect.Event
	// Called in Arm, just before and after the gate is set; nil does nothing.
	// They may send. The manager knows of them from its next method call on.
	beforeArm, afterArm func(detect.ID)
	// Refuses Add and SetPrefixes, if it is an error.
	refuse error

	mu      sync.Mutex // guards what follows
	peers   map[detect.ID]*fakePeer
	slots   uint32
	arms    int
	removed []detect.ID
}

// fakePeer is a peer's record, and what is held of the peer.
type fakePeer struct {
	prefixes []netip.Prefix
	rules    []detect.Rule
	gate     gate
	waiting  uint64 // packets held, neither replayed nor dropped yet
	activity detect.Activity
}

// gate is what the next packet meets, as enum gate in bpf/lazybpf.c.
type gate uint8

const (
	gateOpen      gate = 0
	gateEgress    gate = 1 // the next packet to the peer raises an event
	gateIngress   gate = 2 // the next packet from the peer raises an event
	gateHold      gate = 4 // packets to the peer wait
	gateArmed          = gateEgress | gateIngress
	gateArmedHold      = gateArmed | gateHold
)

func newFakeDetector() *fakeDetector {
	return &fakeDetector{
		events: make(chan detect.Event, 1024),
		peers:  make(map[detect.ID]*fakePeer),
	}
}

func (d *fakeDetector) Events() <-chan detect.Event { return d.events }

func (d *fakeDetector) Add(prefixes []netip.Prefix) (detect.ID, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refuse != nil {
		return 0, d.refuse
	}
	id := detect.ID(1<<32 | uint64(d.slots))
	d.slots++
	d.peers[id] = &fakePeer{prefixes: slices.Clone(prefixes)}
	return id, nil
}

func (d *fakeDetector) SetPrefixes(id detect.ID, prefixes []netip.Prefix) error {
	if d.refuse != nil {
		return d.refuse
	}
	return d.with(id, func(p *fakePeer) { p.prefixes = slices.Clone(prefixes) })
}

func (d *fakeDetector) SetRules(id detect.ID, rules []detect.Rule) error {
	if err := detect.ValidateRules(rules); err != nil {
		return err
	}
	return d.with(id, func(p *fakePeer) { p.rules = slices.Clone(rules) })
}

func (d *fakeDetector) Remove(id detect.ID) error {
	return d.with(id, func(p *fakePeer) {
		delete(d.peers, id)
		d.removed = append(d.removed, id)
	})
}

func (d *fakeDetector) Arm(id detect.ID, hold bool) error {
	if d.beforeArm != nil {
		d.beforeArm(id)
	}
	err := d.with(id, func(p *fakePeer) {
		d.arms++
		p.gate = gateArmed
		if hold {
			p.gate = gateArmedHold
		}
	})
	if d.afterArm != nil {
		d.afterArm(id)
	}
	return err
}

func (d *fakeDetector) Open(id detect.ID) error {
	return d.with(id, (*fakePeer).open)
}

func (d *fakeDetector) Discard(id detect.ID) error {
	return d.with(id, (*fakePeer).discard)
}

func (d *fakeDetector) Activity(id detect.ID) (activity detect.Activity, err error) {
	err = d.with(id, func(p *fakePeer) { activity = p.activity })
	return activity, err
}

// with calls f with the peer while nobody else has it.
func (d *fakeDetector) with(id detect.ID, f func(*fakePeer)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.peers[id]
	if p == nil {
		return detect.ErrUnknownPeer
	}
	f(p)
	return nil
}

// open sends what is held, and lets packets pass from now on.
func (p *fakePeer) open() {
	if p.waiting > 0 {
		p.activity.Replayed += p.waiting
		p.activity.TxPackets += p.waiting
		p.activity.LastTx = time.Now()
		p.waiting = 0
	}
	p.gate = gateOpen
}

// discard drops what is held, and lets packets pass from now on.
func (p *fakePeer) discard() {
	p.activity.Dropped += p.waiting
	p.waiting = 0
	p.open()
}

// find returns the peer that has the address.
func (d *fakeDetector) find(address netip.Addr) (detect.ID, *fakePeer) {
	for id, p := range d.peers {
		for _, prefix := range p.prefixes {
			if prefix.Contains(address) {
				return id, p
			}
		}
	}
	return 0, nil
}

// send lets a packet pass the hooks of the device, to or from the address.
func (d *fakeDetector) send(direction detect.Direction, address netip.Addr) {
	event := detect.Event{Direction: direction, Time: time.Now(), Length: 84, UID: 1000}
	d.mu.Lock()
	id, p := d.find(address)
	raises := p != nil && p.packet(direction, event.Time)
	d.mu.Unlock()
	if raises {
		event.ID = id
		d.events <- event
	}
}

// packet does what the BPF programs do with a packet, and says whether they
// raise an event.
func (p *fakePeer) packet(direction detect.Direction, now time.Time) (raises bool) {
	if direction == detect.Ingress {
		p.activity.RxPackets++
		p.activity.LastRx = now
		raises = p.gate&gateIngress != 0
		if raises {
			p.open()
		}
		return raises
	}
	raises = p.gate&gateEgress != 0
	if p.gate&gateHold != 0 {
		p.gate &^= gateEgress
		p.activity.Held++
		p.waiting++
		return raises
	}
	p.gate = gateOpen
	p.activity.TxPackets++
	p.activity.LastTx = now
	return raises
}

// peer is a copy of the record of the peer that has the address.
func (d *fakeDetector) peer(address netip.Addr) fakePeer {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, p := d.find(address); p != nil {
		return *p
	}
	return fakePeer{}
}
