// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"container/list"
	"math"
	"time"

	"golang.org/x/time/rate"
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
	tokens                *rate.Limiter // for the Opens by packets and groups
	token                 *time.Timer   // fires when there is one for the next of them
}

func newCalls() calls {
	token := time.NewTimer(0)
	token.Stop()
	return calls{running: make(map[Key]*job), token: token}
}

// newTokens makes the bucket of WakeRate and WakeBurst. It is full.
func newTokens(o Options) *rate.Limiter {
	if o.WakeRate == 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(o.WakeRate), o.WakeBurst)
}

// tokenGrain is what the times of tokens are rounded up to: whoever asks at another
// moment gets the same time, however the bucket rounds.
const tokenGrain = time.Millisecond

// untilToken is how long it takes until there is a token. It is 0 just when the
// bucket gives one, which a few 1e-16 may be missing of.
func untilToken(tokens *rate.Limiter, now time.Time) time.Duration {
	missing := (1 - tokens.TokensAt(now)) / float64(tokens.Limit()) * float64(time.Second)
	const longest = math.MaxInt64 / 2
	wait := time.Duration(min(missing, longest))
	if wait <= 0 {
		return 0
	}
	return now.Add(wait).Truncate(tokenGrain).Add(tokenGrain).Sub(now)
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
		if now := time.Now(); !c.tokens.AllowN(now, 1) {
			c.token.Reset(untilToken(c.tokens, now))
			return
		}
		m.start(c.wakes.Front().Value.(*peer))
	}
}
