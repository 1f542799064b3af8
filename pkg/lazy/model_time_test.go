// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"slices"
	"time"
)

// thresholdOf is how long the peer must be silent.
func (m *model) thresholdOf(p *modelPeer) time.Duration {
	if p.threshold == 0 {
		return m.options.InactivityThreshold
	}
	return p.threshold
}

// silentAt is when the peer has been silent for its threshold.
func (m *model) silentAt(p *modelPeer) time.Time {
	last := p.since
	if !p.lost {
		last = later(last, p.record.activity.Last())
	}
	return last.Add(m.thresholdOf(p))
}

// activeUntil is until when the peer keeps its groups awake. One that only they
// have woken needs traffic for that.
func (m *model) activeUntil(p *modelPeer) time.Time {
	switch {
	case p.state == Connected && p.wake == ReasonGroup:
		return p.record.activity.Last().Add(m.thresholdOf(p))
	case p.state == Connected:
		return m.silentAt(p)
	case p.state == Connecting && !p.lost && p.wake != ReasonGroup:
		return m.now.Add(m.thresholdOf(p))
	}
	return time.Time{}
}

// until is until when others of the group keep the peer awake.
func (m *model) until(p *modelPeer, group string) (until time.Time) {
	for _, other := range m.peers {
		for _, name := range other.groups {
			if other != p && name == group {
				until = later(until, m.activeUntil(other))
			}
		}
	}
	return until
}

func (m *model) matesUntil(p *modelPeer) (until time.Time) {
	for _, name := range p.groups {
		until = later(until, m.until(p, name))
	}
	return until
}

// needed says whether the peer must stay awake whatever its own traffic.
func (m *model) needed(p *modelPeer) bool {
	return p.permanent || m.matesUntil(p).After(m.now)
}

// idleAt is when the peer will be parked, zero if it will not.
func (m *model) idleAt(p *modelPeer) time.Time {
	if p.permanent || p.state != Connected && !p.lost {
		return time.Time{}
	}
	return later(m.silentAt(p), m.matesUntil(p))
}

// deadline is when something happens to the peer by itself, zero if nothing
// will.
func (m *model) deadline(p *modelPeer) time.Time {
	switch {
	case p.state != Idle:
		return m.idleAt(p)
	case !p.failedAt.IsZero():
		return p.retryAt
	}
	return p.evictAt
}

// expire does what is due for the peer.
func (m *model) expire(p *modelPeer) {
	switch {
	case p.state != Idle:
		m.park(p)
	case p.permanent:
		m.open(p, ReasonRequest)
	case m.needed(p):
		m.open(p, ReasonGroup)
	case !p.failedAt.IsZero():
		m.arm(p)
	default:
		m.evict(p)
	}
}

func (m *model) isDue(at time.Time) bool { return !at.IsZero() && !at.After(m.now) }

// elapse does what is due by now. What the manager has been seen to do comes
// before the results of calls that return meanwhile, the rest after them.
func (m *model) elapse() {
	for due := true; due; {
		m.follow() // a token may have come
		due = m.endCalls()
		for p, seen := m.firstDue(); p != nil; p, seen = m.firstDue() {
			due = true
			if !seen && len(m.returned)+len(m.raised) > 0 {
				break
			}
			m.expire(p)
		}
	}
	m.woken, m.armed = nil, nil
}

// endCalls ends the calls whose time is up, and says whether there are any.
func (m *model) endCalls() (due bool) {
	for _, c := range m.calls {
		switch {
		case !c.abandoned && m.isDue(c.until):
			m.overdue(c)
			due = true
		case m.isDue(c.endsAt):
			c.endsAt = time.Time{}
			m.returns(c, c.err)
			due = true
		}
	}
	return due
}

// firstDue is the first peer whose time is up, nil if there is none. The
// manager may have been seen to do something about it.
func (m *model) firstDue() (first *modelPeer, seen bool) {
	var due []*modelPeer
	for _, p := range m.peers {
		if m.isDue(m.deadline(p)) {
			due = append(due, p)
		}
	}
	if len(due) == 0 {
		return nil, false
	}
	order := slices.Concat(m.armed, m.woken)
	first = inOrder(due, order)[0]
	return first, slices.Contains(order, first.n)
}

// next is when something happens by itself, zero if nothing will.
func (m *model) next() (next time.Time) {
	sooner := func(at time.Time) {
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	for _, p := range m.peers {
		sooner(m.deadline(p))
	}
	for _, c := range m.calls {
		if !c.abandoned {
			sooner(c.until)
		}
		sooner(c.endsAt)
	}
	for _, p := range m.queue {
		if p.awaitsToken() && !m.hasToken() {
			sooner(m.now.Add(m.tokens.until(m.now)))
		}
	}
	return next
}
