// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"context"
	"slices"
	"time"
)

// manners are a connector's.
type manners uint8

const (
	succeeds manners = iota // at once
	fails                   // at once
	notYet                  // an Evict does not yet; others succeed at once
	obeys                   // waits for an answer or, nearly, the end of its context
	deaf                    // waits for an answer
)

// tidyUp is how long a call takes that obeys, for each peer another time: so none
// end at the same moment, with nobody to tell which is first.
func tidyUp(n byte) time.Duration { return time.Duration(n) }

// notYetAgain is when such an Evict wants to be asked again.
const notYetAgain = 33 * time.Second

// modelCall is a connector call that has not returned.
type modelCall struct {
	peer      *modelPeer
	call      call
	manners   manners
	until     time.Time
	abandoned bool      // too late, or for a peer that is gone
	endsAt    time.Time // of one that has been told to
	err       error
	again     time.Time // an Evict's
}

// want makes c the peer's next call.
func (m *model) want(p *modelPeer, c call) {
	m.unqueue(p)
	p.next = c
	m.enqueue(p)
}

func (m *model) unqueue(p *modelPeer) {
	p.next = noCall
	m.queue = slices.DeleteFunc(m.queue, func(other *modelPeer) bool { return other == p })
}

// enqueue lets the peer wait for its turn, once it has no other call.
func (m *model) enqueue(p *modelPeer) {
	if p.next != noCall && m.calls[p.n] == nil && !slices.Contains(m.queue, p) {
		m.queue = append(m.queue, p)
	}
	m.serve()
}

// serve begins the calls whose turn it is.
func (m *model) serve() {
	for p := m.turn(); p != nil; p = m.turn() {
		m.begin(p)
	}
}

// turn is whose turn it is: Closes and Evicts have places of their own; Opens
// that were asked for go first, others need a token.
func (m *model) turn() *modelPeer {
	opens, others := 0, 0
	for _, c := range m.calls {
		switch {
		case c.abandoned:
		case c.call == callOpen:
			opens++
		default:
			others++
		}
	}
	for _, may := range []func(p *modelPeer) bool{
		func(p *modelPeer) bool { return p.next != callOpen && others < m.options.MaxOpens },
		func(p *modelPeer) bool { return p.asked() && opens < m.options.MaxOpens },
		func(p *modelPeer) bool { return p.awaitsToken() && opens < m.options.MaxOpens && m.hasToken() },
	} {
		if i := slices.IndexFunc(m.queue, may); i >= 0 {
			return m.queue[i]
		}
	}
	return nil
}

func (p *modelPeer) asked() bool       { return p.next == callOpen && p.urgent }
func (p *modelPeer) awaitsToken() bool { return p.next == callOpen && !p.urgent }

func (m *model) hasToken() bool { return m.tokens.until(m.now) == 0 }

func (m *model) begin(p *modelPeer) {
	if p.awaitsToken() {
		m.tokens.take(m.now)
	}
	c := &modelCall{
		peer: p, call: p.next, manners: m.manners[p.n], until: m.now.Add(m.options.OpenTimeout),
	}
	m.unqueue(p)
	m.calls[p.n] = c
	m.begun[c.call][p.n]++
	switch c.manners {
	case notYet:
		if c.call == callEvict {
			c.again = m.now.Add(notYetAgain)
		}
		m.returns(c, nil)
	case succeeds:
		m.returns(c, nil)
	case fails:
		m.returns(c, errRefused)
	}
}

// returns is the end of a call. The manager learns of it when it has done what
// it is at.
func (m *model) returns(c *modelCall, err error) {
	c.err = err
	m.returned = append(m.returned, c)
}

// overdue is what follows when a call has not returned in time.
func (m *model) overdue(c *modelCall) {
	if c.call == callOpen {
		m.giveUp(c.peer, ErrTimeout)
	} else {
		c.peer.err = ErrTimeout
	}
	m.abandon(c)
}

// abandon gives a call up: it no longer has a place among the others.
func (m *model) abandon(c *modelCall) {
	c.abandoned = true
	if c.manners == obeys {
		c.endsAt, c.err = m.now.Add(tidyUp(c.peer.n)), ErrTimeout
		if m.now.Before(c.until) {
			c.err = context.Canceled
		}
	}
	m.serve()
}

// finish is what follows from a call that has returned.
func (m *model) finish(c *modelCall) {
	p := c.peer
	delete(m.calls, p.n)
	if m.peers[p.n] == p {
		switch {
		case c.call == callClose:
			p.err = c.err
		case c.call == callEvict:
			if c.err != context.Canceled {
				p.err = c.err
			}
			m.evictEnds(p, c.err, c.again)
		case c.err == nil:
			m.openSucceeds(p)
		case !c.abandoned:
			m.giveUp(p, c.err)
		}
	}
	if p := m.peers[p.n]; p != nil {
		m.enqueue(p)
	}
	m.serve()
}

// openSucceeds may be long after the Open was given up.
func (m *model) openSucceeds(p *modelPeer) {
	m.unqueue(p)
	p.evicted = false
	p.record.open()
	if p.state == Connecting || m.needed(p) {
		m.connected(p)
	} else {
		m.park(p)
	}
}

func (m *model) evictEnds(p *modelPeer, err error, again time.Time) {
	switch {
	case p.state != Idle: // its Open is next, and must know
		p.evicted = err == nil && again.IsZero()
	case err != nil:
		m.stay(p, m.now.Add(m.options.EvictAfter))
	case !again.IsZero():
		m.stay(p, again)
	}
}
