// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"container/list"
	"time"
)

// This file says when a connector is called: for each peer one call after the
// other, and never more of them than the options allow.

// call is what a connector is to do.
type call uint8

const (
	noCall call = iota
	callOpen
	callClose
	callEvict
)

var callNames = [...]string{"", "open", "close", "evict"}

func (c call) String() string { return callNames[c] }

// calls are the connector calls that run, and those that wait.
type calls struct {
	running map[Key]*job
	opens   int // how many of these are Opens that count
	closes  int // and how many are others
	// What waits for its turn: Opens that somebody has asked for, Opens by
	// packets and groups, and what idle peers need.
	requests, wakes, rest list.List
	tokens                tokens
	token                 *time.Timer // fires when there is one for the next of the wakes
}

func newCalls() calls {
	token := time.NewTimer(0)
	token.Stop()
	return calls{running: make(map[Key]*job), token: token}
}

// want makes c the next call for the peer, as soon as no other runs for it and
// its turn has come. It replaces one that waits.
func (m *Manager) want(p *peer, c call) {
	m.forgetTurn(p)
	p.next = c
	m.proceed(p)
}

// proceed lets the peer's next call take its place among those that wait.
func (m *Manager) proceed(p *peer) {
	if p.next == noCall || p.turn != nil || m.calls.running[p.Key] != nil {
		return
	}
	p.stir()
	switch {
	case p.next != callOpen:
		p.turns = &m.calls.rest
	case p.urgent:
		p.turns = &m.calls.requests
	default:
		p.turns = &m.calls.wakes
	}
	p.turn = p.turns.PushBack(p)
	m.callWaiting()
}

func (m *Manager) forgetTurn(p *peer) {
	p.next = noCall
	if p.turn != nil {
		p.turns.Remove(p.turn)
		p.turn = nil
	}
}

// callWaiting starts the calls whose turn it is.
func (m *Manager) callWaiting() {
	c := &m.calls
	for c.closes < m.options.MaxOpens && c.rest.Len() > 0 {
		m.start(c.rest.Front().Value.(*peer))
	}
	for c.opens < m.options.MaxOpens && c.requests.Len() > 0 {
		m.start(c.requests.Front().Value.(*peer))
	}
	for c.opens < m.options.MaxOpens && c.wakes.Len() > 0 {
		if now := time.Now(); !c.tokens.take(now) {
			c.token.Reset(c.tokens.until(now))
			return
		}
		m.start(c.wakes.Front().Value.(*peer))
	}
}
