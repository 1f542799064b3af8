// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"math/rand/v2"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

// This file does what decide says. All of it runs in the owning goroutine.

// packet takes an event of the detector's.
func (m *Manager) packet(event detect.Event) {
	p := m.byID[event.ID]
	if p == nil || event.Time.Before(p.armedAt) {
		return
	}
	reason := ReasonEgress
	if event.Direction == detect.Ingress {
		reason = ReasonIngress
	}
	m.step(p, packet, Wake{Reason: reason, Time: event.Time, Event: event})
}

// step takes a peer through one input; wake is why, if the input wakes.
func (m *Manager) step(p *peer, in input, wake Wake) {
	now := time.Now()
	from := p.state
	next, do := decide(m.view(p, now), in, now)
	p.state = next
	var failure error
	var by Wake
	switch do {
	case nothing:
	case open:
		m.open(p, wake)
		by = *p.wake
	case settle:
		m.settle(p, now)
		by = *p.wake
	case watch:
		m.watch(p)
	case park:
		if m.park(p, from); p.state == Connected { // after all
			by = *p.wake
		}
	case giveUp:
		failure = p.lastError
		m.giveUp(p, now)
	case rearm:
		m.arm(p, now)
	case await:
		p.lost, p.stir().since = true, now
		m.watch(p)
	case resume:
		p.lost, p.stir().since = false, now
		m.watch(p)
	case evict:
		m.evict(p, now)
	}
	if p.state != from {
		m.publish(p, now, from, by, failure)
	}
	if p.state < from {
		m.rewatch(p.Groups...)
	}
	if do == open && in != mate && in != deadline {
		m.rally(p.Groups...)
	}
}

func (m *Manager) view(p *peer, now time.Time) view {
	v := view{
		state: p.state, permanent: p.permanent, backingOff: p.backingOff, lost: p.lost,
		mates: m.matesUntil(p).After(now),
	}
	if p.state == Connected {
		v.idleAt = m.idleAt(p)
	}
	return v
}

// activity is what the detector has seen of the peer; nothing once it is closed.
func (m *Manager) activity(p *peer) detect.Activity {
	activity, _ := m.detector.Activity(p.id)
	return activity
}

// idleAt is when a connected peer will have been silent for its threshold. One
// whose connection broke is silent: packets that nobody can answer do not count.
func (m *Manager) idleAt(p *peer) time.Time {
	last := p.since
	if !p.lost {
		last = later(m.activity(p).Last(), p.since)
	}
	return last.Add(m.threshold(p))
}

func (m *Manager) threshold(p *peer) time.Duration {
	if p.Threshold == 0 {
		return m.options.InactivityThreshold
	}
	return p.Threshold
}

// holds says whether the peer's packets wait for the connector.
func (m *Manager) holds(p *peer) bool {
	if p.Wake == WakeDefault {
		return m.options.Wake == WakeHold
	}
	return p.Wake == WakeHold
}

// open has the peer opened when its turn comes.
func (m *Manager) open(p *peer, wake Wake) {
	m.deadlines.set(p, time.Time{})
	if p.next == callEvict {
		p.evicted = false // it never came to that
	}
	p.backingOff = false
	p.stir()
	p.wake, p.received = &wake, m.activity(p).RxPackets
	p.urgent = wake.Reason == ReasonRequest
	if j := m.calls.running[p.Key]; j != nil && j.call == callEvict {
		m.abandon(j) // it may take long, and the Open waits for its end
		m.callWaiting()
	}
	m.want(p, callOpen)
}

// settle notes that a peer has become connected, and watches it.
func (m *Manager) settle(p *peer, now time.Time) {
	p.stir()
	p.since, p.failures, p.backingOff, p.lastError = now, 0, false, nil
	p.wakes++
	p.wake.Took = now.Sub(p.wake.Time)
	m.watch(p)
}

// watch sets the deadline of a connected peer, or one whose connection broke.
func (m *Manager) watch(p *peer) {
	var at time.Time
	if !p.permanent {
		at = later(m.idleAt(p), m.matesUntil(p))
	}
	m.deadlines.set(p, at)
}

// arm makes the next packet of the peer wake it.
func (m *Manager) arm(p *peer, now time.Time) {
	p.armedAt, p.backingOff = now, false
	m.evictAt(p, now.Add(m.options.EvictAfter))
	m.setGate(p)
}

// setGate arms a dormant peer as it has to be now. The dormancy is the same:
// an event on its way still counts.
func (m *Manager) setGate(p *peer) {
	p.holding = m.holds(p) || p.evicted
	// Only a detector that is closed, or does not know the peer, refuses.
	_ = m.detector.Arm(p.id, p.holding)
}

// park puts a peer to sleep, unless it turns out that it is talked to: a
// packet between the decision and the arming has raised no event.
func (m *Manager) park(p *peer, from State) {
	now := time.Now()
	before := m.activity(p)
	m.arm(p, now)
	if !p.lost && talked(before, m.activity(p), now) {
		_ = m.detector.Open(p.id)
		p.state = Connected
		if from == Connected {
			m.watch(p)
		} else { // its Open, long given up, has succeeded just now
			m.settle(p, now)
		}
		return
	}
	p.lost = false
	m.want(p, callClose)
}

// maxTick is a tick of the kernel's clock, at worst (CONFIG_HZ=100). Times of
// activity are up to two ticks early.
const maxTick = 10 * time.Millisecond

// talked says whether a packet that keeps the peer awake has passed between
// two looks. Times tell it, unless they may be of the same tick: then
// any packet counts.
func talked(before, after detect.Activity, now time.Time) bool {
	if now.Sub(before.Last()) > 3*maxTick {
		return after.Last() != before.Last() || after.Held != before.Held
	}
	return after.Packets() != before.Packets()
}

// Bounds of the time that a peer is left alone after its Open failed.
const (
	minBackOff = time.Second
	maxBackOff = 5 * time.Minute
)

// giveUp lets WireGuard answer for the peer for a while: applications learn
// from it sooner than from silence that there is nobody.
func (m *Manager) giveUp(p *peer, now time.Time) {
	_ = m.detector.Discard(p.id)
	p.stir().failures++
	p.backingOff = true
	m.deadlines.set(p, now.Add(backOff(p.failures)))
}

// backOff doubles with each failure; half of it is by chance, so that peers
// that failed together do not come back together.
func backOff(failures int) time.Duration {
	d := min(minBackOff<<min(failures-1, 16), maxBackOff)
	return d/2 + rand.N(d/2+1)
}

// evictAt sets when an idle peer is to be taken off the device, if ever.
func (m *Manager) evictAt(p *peer, at time.Time) {
	if m.options.EvictAfter == 0 || p.evicted {
		at = time.Time{}
	}
	m.deadlines.set(p, at)
}

// evict has an idle peer taken off the device. From before that on its packets
// are held, since WireGuard has no place for them. One that has just passed is
// WireGuard's: its event is on the way, and the peer stays.
func (m *Manager) evict(p *peer, now time.Time) {
	if p.next == callClose { // first things first
		m.evictAt(p, now.Add(m.options.EvictAfter))
		return
	}
	p.evicted = true
	m.setGate(p)
	if m.activity(p).Last().After(p.armedAt) {
		m.stay(p, now.Add(m.options.EvictAfter))
		return
	}
	m.want(p, callEvict)
}

// evictReturned takes the result of an Evict: gone, or not yet.
func (m *Manager) evictReturned(p *peer, r result) {
	switch {
	case p.state != Idle: // it was woken meanwhile: its Open is next
		p.evicted = r.err == nil && r.again.IsZero()
	case r.err != nil:
		m.stay(p, time.Now().Add(m.options.EvictAfter))
	case !r.again.IsZero():
		m.stay(p, later(r.again, time.Now().Add(minBackOff)))
	}
}

// stay leaves an idle peer on the device, until another try at that time.
func (m *Manager) stay(p *peer, again time.Time) {
	p.evicted = false
	m.setGate(p)
	m.evictAt(p, again)
}
