// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"slices"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

// race is a packet that passes while a peer that was open is armed.
type race struct {
	direction     detect.Direction
	before, after bool
}

// raised is an event.
type raised struct {
	peer   *modelPeer
	reason Reason
}

// pass lets a packet pass the gate.
func (m *model) pass(p *modelPeer, direction detect.Direction) {
	if !p.record.packet(direction, m.now) {
		return
	}
	reason := ReasonEgress
	if direction == detect.Ingress {
		reason = ReasonIngress
	}
	m.raised = append(m.raised, raised{p, reason})
}

// follow does what follows from an input: calls that return, and wakes by
// packets that passed meanwhile.
func (m *model) follow() {
	m.serve()
	for len(m.returned)+len(m.raised) > 0 {
		if len(m.returned) > 0 {
			c := m.returned[0]
			m.returned = m.returned[1:]
			m.finish(c)
			continue
		}
		event := m.raised[0]
		m.raised = m.raised[1:]
		if slices.Contains(m.dormant(), event.peer) {
			m.wakeUp(event.peer, event.reason)
		}
	}
}

// dormant are the peers that wait for a packet.
func (m *model) dormant() (all []*modelPeer) {
	for _, p := range m.peers {
		if p.state == Idle && p.failedAt.IsZero() {
			all = append(all, p)
		}
	}
	return all
}

// wakeUp opens a peer, and the others of its groups.
func (m *model) wakeUp(p *modelPeer, reason Reason) {
	m.open(p, reason)
	m.rally(p.groups)
}

// rally opens the dormant members of the groups that have an active one.
func (m *model) rally(names []string) {
	var called []*modelPeer
	for _, p := range m.dormant() {
		for _, name := range p.groups {
			if slices.Contains(names, name) && m.until(p, name).After(m.now) {
				called = append(called, p)
				break
			}
		}
	}
	for _, p := range inOrder(called, m.woken) {
		m.open(p, ReasonGroup)
	}
}

func (m *model) open(p *modelPeer, reason Reason) {
	if p.next == callEvict { // it never came to that
		p.evicted = false
	}
	if c := m.calls[p.n]; c != nil && c.call == callEvict && !c.abandoned {
		m.abandon(c)
	}
	p.state, p.wake, p.wokenAt = Connecting, reason, m.now
	p.failedAt, p.evictAt = time.Time{}, time.Time{}
	p.urgent = reason == ReasonRequest
	m.want(p, callOpen)
}

func (m *model) connected(p *modelPeer) {
	p.state, p.since, p.err = Connected, m.now, nil
	p.failures, p.failedAt = 0, time.Time{}
	p.wakes++
}

func (m *model) giveUp(p *modelPeer, err error) {
	p.state, p.err = Idle, err
	p.failures++
	p.idleSince, p.failedAt, p.retryAt = m.now, m.now, time.Time{}
	p.record.discard()
}

func (m *model) park(p *modelPeer) {
	before := p.record.activity
	woken := p.state == Idle && before.Last().After(p.idleSince)
	m.arm(p)
	if woken || !p.lost && p.record.activity.Packets() != before.Packets() {
		p.record.open()
		if p.state != Connected { // an Open that was given up has succeeded
			m.connected(p)
		}
		return
	}
	p.state, p.lost = Idle, false
	m.want(p, callClose)
}

func (m *model) arm(p *modelPeer) {
	var r race
	if p.record.gate == gateOpen {
		r = m.races[p.n]
		delete(m.races, p.n)
	}
	if r.before {
		m.pass(p, r.direction)
	}
	p.idleSince, p.failedAt = m.now, time.Time{}
	m.setGate(p)
	m.evictLater(p, m.now.Add(m.options.EvictAfter))
	if r.after {
		m.pass(p, r.direction)
	}
}

func (m *model) setGate(p *modelPeer) {
	mode := p.mode
	if mode == WakeDefault {
		mode = m.options.Wake
	}
	p.record.gate = gateArmed
	if mode == WakeHold || p.evicted {
		p.record.gate = gateArmedHold
	}
}

func (m *model) evict(p *modelPeer) {
	if p.next == callClose {
		m.evictLater(p, m.now.Add(m.options.EvictAfter))
		return
	}
	p.evicted, p.evictAt = true, time.Time{}
	m.setGate(p)
	m.want(p, callEvict)
}

// stay leaves a dormant peer on the device.
func (m *model) stay(p *modelPeer, again time.Time) {
	p.evicted = false
	m.setGate(p)
	m.evictLater(p, again)
}

func (m *model) evictLater(p *modelPeer, at time.Time) {
	if m.options.EvictAfter == 0 || p.evicted {
		at = time.Time{}
	}
	p.evictAt = at
}

// inOrder has the peers in the order of their numbers in this list, those
// that are not in it last.
func inOrder(peers []*modelPeer, order []byte) []*modelPeer {
	place := func(p *modelPeer) int { return slices.Index(append(order, p.n), p.n) }
	slices.SortFunc(peers, func(a, b *modelPeer) int { return place(a) - place(b) })
	return peers
}
