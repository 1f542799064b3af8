// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"context"
	"slices"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

// model is what a manager ought to do, told as simply as it can be: without
// goroutines, timers or a heap, with one call for each thing that happens.
type model struct {
	options  Options
	now      time.Time
	peers    map[byte]*modelPeer
	calls    map[byte]*modelCall // that run, by the peer's number
	queue    []*modelPeer        // connecting, without a call
	excluded map[byte]bool
	manners  map[byte]manners // of the connector with each peer
	races    map[byte]race

	opens, closes map[byte]int // how many calls began
}

type modelPeer struct {
	n         byte
	state     State
	permanent bool
	threshold time.Duration
	hold      bool
	record    fakePeer // the detector's
	since     time.Time
	wake      Reason
	wakes     uint64
	err       error

	failures int
	failedAt time.Time // zero unless it backs off
	retryAt  time.Time // by chance: told by the manager
	closeDue bool
	urgent   bool
}

// modelCall is a connector call that has not returned.
type modelCall struct {
	peer      *modelPeer
	opens     bool
	manners   manners
	abandoned bool
	until     time.Time // an Open's
}

// manners are a connector's.
type manners uint8

const (
	succeeds manners = iota // at once
	fails                   // at once
	obeys                   // waits for an answer or the end of its context; a Close is deaf
	deaf                    // waits for an answer
)

// race is a packet that passes when the peer is armed next.
type race struct {
	direction     detect.Direction
	before, after bool
}

func newModel(options Options) *model {
	return &model{
		options:  options,
		now:      time.Now(),
		peers:    make(map[byte]*modelPeer),
		calls:    make(map[byte]*modelCall),
		excluded: make(map[byte]bool),
		manners:  make(map[byte]manners),
		races:    make(map[byte]race),
		opens:    make(map[byte]int),
		closes:   make(map[byte]int),
	}
}

// What is done to the manager.

func (m *model) add(n byte, connected bool) {
	p := &modelPeer{n: n, state: Idle, threshold: m.options.InactivityThreshold}
	m.peers[n] = p
	if connected {
		p.state, p.permanent, p.since, p.wake = Connected, m.excluded[n], m.now, ReasonStart
		return
	}
	p.permanent = m.excluded[n]
	woken := m.arm(p)
	if p.permanent {
		m.open(p, ReasonRequest)
	}
	m.events(p, woken)
}

func (m *model) update(n byte, threshold time.Duration, hold bool) {
	p := m.peers[n]
	changes := p.hold != hold
	p.threshold, p.hold = threshold, hold
	if p.state == Idle && p.failedAt.IsZero() && changes {
		m.events(p, m.arm(p))
	}
}

func (m *model) remove(n byte) {
	p := m.peers[n]
	delete(m.peers, n)
	m.queue = slices.DeleteFunc(m.queue, func(other *modelPeer) bool { return other == p })
	m.abandon(n)
	m.serve()
}

func (m *model) activate(n byte) {
	p := m.peers[n]
	p.failures = 0
	if i := slices.Index(m.queue, p); i >= 0 && !p.urgent {
		m.queue = slices.Delete(m.queue, i, i+1)
		p.urgent = true
		m.enqueue(p)
	}
	if p.state == Idle {
		m.open(p, ReasonRequest)
	}
}

func (m *model) deactivate(n byte) {
	if p := m.peers[n]; p.state == Connected && !p.permanent {
		m.park(p)
	}
}

func (m *model) exclude(list []byte) (added []byte) {
	before := m.excluded
	m.excluded = make(map[byte]bool)
	for _, n := range list {
		if m.peers[n] != nil && !before[n] && !m.excluded[n] {
			added = append(added, n)
		}
		m.excluded[n] = true
	}
	for n, p := range m.peers {
		if before[n] && !m.excluded[n] {
			p.permanent, p.since = false, m.now
		}
	}
	for _, n := range added {
		p := m.peers[n]
		p.permanent = true
		if p.state == Idle {
			m.open(p, ReasonRequest)
		}
	}
	return added
}

func (m *model) packet(n byte, direction detect.Direction) {
	p := m.peers[n]
	if p == nil {
		return
	}
	if p.record.packet(direction, m.now) {
		m.events(p, []detect.Direction{direction})
	}
}

// answer ends the call that runs for the peer.
func (m *model) answer(n byte, err error) { m.finish(m.calls[n], err) }

// What follows from it.

// events wakes the peer by the packets that have raised an event.
func (m *model) events(p *modelPeer, raised []detect.Direction) {
	if len(raised) == 0 || p.state != Idle || !p.failedAt.IsZero() {
		return
	}
	reason := ReasonEgress
	if raised[0] == detect.Ingress {
		reason = ReasonIngress
	}
	m.open(p, reason)
}

func (m *model) open(p *modelPeer, reason Reason) {
	p.state, p.wake, p.failedAt = Connecting, reason, time.Time{}
	p.urgent = reason == ReasonRequest
	m.enqueue(p)
	m.serve()
}

// enqueue lets the peer wait for its Open: urgent ones before the others.
func (m *model) enqueue(p *modelPeer) {
	i := len(m.queue)
	for p.urgent && i > 0 && !m.queue[i-1].urgent {
		i--
	}
	m.queue = slices.Insert(m.queue, i, p)
}

// serve begins the Opens whose turn it is.
func (m *model) serve() {
	for {
		opening := 0
		for _, c := range m.calls {
			if c.opens && !c.abandoned {
				opening++
			}
		}
		i := slices.IndexFunc(m.queue, func(p *modelPeer) bool { return m.calls[p.n] == nil })
		if i < 0 || opening >= m.options.MaxOpens {
			return
		}
		p := m.queue[i]
		m.queue = slices.Delete(m.queue, i, i+1)
		m.opens[p.n]++
		m.begin(&modelCall{peer: p, opens: true, until: m.now.Add(m.options.OpenTimeout)})
	}
}

func (m *model) begin(c *modelCall) {
	n := c.peer.n
	c.manners = m.manners[n]
	m.calls[n] = c
	switch c.manners {
	case succeeds:
		m.finish(c, nil)
	case fails:
		m.finish(c, errRefused)
	}
}

func (m *model) finish(c *modelCall, err error) {
	p := c.peer
	delete(m.calls, p.n)
	if m.peers[p.n] == p {
		switch {
		case !c.opens:
			p.err = err
		case err == nil:
			p.record.open()
			if p.state == Connecting || p.permanent {
				m.connected(p)
			} else {
				m.park(p)
			}
		case !c.abandoned:
			m.giveUp(p, err)
		}
	}
	if p := m.peers[p.n]; p != nil && p.closeDue && m.calls[p.n] == nil {
		p.closeDue = false
		if p.state == Idle {
			m.close(p)
		}
	}
	m.serve()
}

func (m *model) connected(p *modelPeer) {
	m.queue = slices.DeleteFunc(m.queue, func(other *modelPeer) bool { return other == p })
	p.state, p.since, p.err = Connected, m.now, nil
	p.failures, p.failedAt = 0, time.Time{}
	p.wakes++
}

func (m *model) giveUp(p *modelPeer, err error) {
	p.state, p.err = Idle, err
	p.failures++
	p.failedAt, p.retryAt = m.now, time.Time{}
	p.record.discard()
	m.abandon(p.n)
	m.serve()
}

func (m *model) abandon(n byte) {
	c := m.calls[n]
	if c == nil || !c.opens {
		return
	}
	c.abandoned = true
	if c.manners == obeys {
		m.finish(c, context.Canceled)
	}
}

// arm returns the directions of the packets that have raised events meanwhile.
func (m *model) arm(p *modelPeer) (raised []detect.Direction) {
	r := m.races[p.n]
	delete(m.races, p.n)
	if r.before && p.record.packet(r.direction, m.now) {
		raised = append(raised, r.direction)
	}
	p.record.gate = gateArmed
	if p.hold {
		p.record.gate = gateArmedHold
	}
	if r.after && p.record.packet(r.direction, m.now) {
		raised = append(raised, r.direction)
	}
	p.failedAt = time.Time{}
	return raised
}

func (m *model) park(p *modelPeer) {
	before := p.record.activity.Packets()
	m.arm(p)
	if p.record.activity.Packets() != before {
		p.record.open()
		if p.state != Connected {
			m.connected(p)
		}
		return
	}
	p.state = Idle
	if m.calls[p.n] != nil {
		p.closeDue = true
		return
	}
	m.close(p)
}

func (m *model) close(p *modelPeer) {
	m.closes[p.n]++
	m.begin(&modelCall{peer: p})
}

// Time.

// idleAt is when the peer will be parked, zero if it will not.
func (m *model) idleAt(p *modelPeer) time.Time {
	if p.state != Connected || p.permanent {
		return time.Time{}
	}
	last := p.since
	if at := p.record.activity.Last(); at.After(last) {
		last = at
	}
	return last.Add(p.threshold)
}

// next is when something happens by itself, zero if nothing will.
func (m *model) next() time.Time {
	var next time.Time
	sooner := func(at time.Time) {
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	for _, p := range m.peers {
		sooner(m.idleAt(p))
		if !p.failedAt.IsZero() {
			sooner(p.retryAt)
		}
	}
	for _, c := range m.calls {
		if c.opens && !c.abandoned {
			sooner(c.until)
		}
	}
	return next
}

// expire does what is due by now.
func (m *model) expire() {
	due := func(at time.Time) bool { return !at.IsZero() && !at.After(m.now) }
	for _, c := range m.calls {
		if c.opens && !c.abandoned && due(c.until) {
			m.giveUp(c.peer, ErrTimeout)
		}
	}
	for _, p := range m.peers {
		switch {
		case due(m.idleAt(p)):
			m.park(p)
		case !p.failedAt.IsZero() && due(p.retryAt) && p.permanent:
			m.open(p, ReasonRequest)
		case !p.failedAt.IsZero() && due(p.retryAt):
			m.events(p, m.arm(p))
		}
	}
}
