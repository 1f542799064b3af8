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
	if p == nil || event.Time.Before(p.idleSince) {
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
	p.backingOff, p.idleSince = true, now
	m.deadlines.set(p, now.Add(backOff(p.failures)))
}

// backOff doubles with each failure; half of it is by chance, so that peers
// that failed together do not come back together.
func backOff(failures int) time.Duration {
	d := min(minBackOff<<min(failures-1, 16), maxBackOff)
	return d/2 + rand.N(d/2+1)
}
