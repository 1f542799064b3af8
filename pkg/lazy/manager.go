// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

// Manager keeps peers dormant until they are needed. Its methods may be called
// from any goroutine; they return when the manager has taken notice, and do not
// wait for connectors. After Close they return ErrClosed.
//
// One goroutine owns the peers. Others send it functions to run; connectors
// run beside it and send it what came of it.
type Manager struct {
	detector  Detector
	connector Connector
	requests  chan func()
	results   chan result
	quit      chan struct{} // closed to end the goroutine
	ended     chan struct{} // closed when it has ended
	once      sync.Once

	ctx    context.Context // of all connector calls
	cancel context.CancelFunc
	jobs   sync.WaitGroup

	// Of the owning goroutine alone.
	options     Options
	peers       map[Key]*peer
	byID        map[detect.ID]*peer
	excluded    map[Key]bool
	groups      groups
	deadlines   *deadlines
	calls       calls
	subscribers map[*Subscription]bool
}

// New starts a manager without peers. Errors are those of Validate.
func New(options Options) (*Manager, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	m := &Manager{
		options:     options.withDefaults(),
		detector:    options.Detector,
		connector:   options.Connector,
		requests:    make(chan func()),
		results:     make(chan result),
		quit:        make(chan struct{}),
		ended:       make(chan struct{}),
		peers:       make(map[Key]*peer),
		byID:        make(map[detect.ID]*peer),
		excluded:    make(map[Key]bool),
		groups:      make(groups),
		deadlines:   newDeadlines(),
		calls:       newCalls(),
		subscribers: make(map[*Subscription]bool),
	}
	m.calls.tokens = newTokens(m.options)
	m.ctx, m.cancel = context.WithCancel(context.Background())
	go m.run()
	return m, nil
}

// Close ends the manager: connector calls are cancelled, and waited for no
// longer than half a second; subscriptions end. Peers and detector are left as
// they are: what is held goes on waiting until the detector is closed. Closing
// again does nothing. The error is always nil.
func (m *Manager) Close() error {
	m.once.Do(func() {
		close(m.quit)
		m.cancel()
	})
	<-m.ended
	idle := make(chan struct{})
	go func() { m.jobs.Wait(); close(idle) }()
	select {
	case <-idle:
	case <-time.After(500 * time.Millisecond):
	}
	return nil
}

func (m *Manager) run() {
	defer close(m.ended)
	events := m.detector.Events()
	for {
		select {
		case <-m.quit:
			m.deadlines.timer.Stop()
			m.calls.token.Stop()
			for s := range m.subscribers {
				s.end()
			}
			return
		case request := <-m.requests:
			request()
		case event, ok := <-events:
			if !ok {
				events = nil // the detector is closed: nobody wakes by packet
				continue
			}
			m.packet(event)
		case r := <-m.results:
			m.finish(r)
		case <-m.deadlines.timer.C:
			now := time.Now()
			for p := m.deadlines.expired(now); p != nil; p = m.deadlines.expired(now) {
				m.expire(p, now)
			}
		case <-m.calls.token.C:
			m.callWaiting()
		}
	}
}

// do runs f in the owning goroutine.
func (m *Manager) do(f func() error) error {
	done := make(chan error, 1)
	select {
	case m.requests <- func() { done <- f() }:
		return <-done
	case <-m.ended:
		return ErrClosed
	}
}

// with runs f in the owning goroutine on the peer of this key. Error:
// ErrUnknownPeer.
func (m *Manager) with(key Key, f func(*peer) error) error {
	return m.do(func() error {
		p := m.peers[key]
		if p == nil {
			return fmt.Errorf("%w: %s", ErrUnknownPeer, key)
		}
		return f(p)
	})
}

// SetOptions changes the options, but for Detector and Connector, which stay.
// What runs already goes on by the old ones. Errors are those of Validate; then
// nothing changes.
func (m *Manager) SetOptions(options Options) error {
	return m.do(func() error {
		options.Detector, options.Connector = m.detector, m.connector
		if err := options.Validate(); err != nil {
			return err
		}
		before := m.options
		m.options = options.withDefaults()
		if m.options.WakeRate != before.WakeRate || m.options.WakeBurst != before.WakeBurst {
			m.calls.tokens = newTokens(m.options)
		}
		for _, p := range m.peers {
			m.refresh(p)
			if p.state == Idle && !p.backingOff && m.options.EvictAfter != before.EvictAfter {
				m.evictAt(p, later(p.idleSince.Add(m.options.EvictAfter), time.Now()))
			}
		}
		m.callWaiting()
		return nil
	})
}

// Peer returns the status of one peer. Reading it changes nothing. Error:
// ErrUnknownPeer.
func (m *Manager) Peer(key Key) (status Status, err error) {
	err = m.with(key, func(p *peer) error {
		status = m.status(p)
		return nil
	})
	return status, err
}

// Peers returns the status of all peers, in no order. Reading it changes nothing.
func (m *Manager) Peers() (all []Status, err error) {
	err = m.do(func() error {
		all = make([]Status, 0, len(m.peers))
		for _, p := range m.peers {
			all = append(all, m.status(p))
		}
		return nil
	})
	return all, err
}

func (m *Manager) status(p *peer) Status {
	s := Status{
		Peer: p.config(), State: p.state, Permanent: p.permanent,
		Evicted: p.evicted, Activity: m.activity(p),
		Wakes: p.wakes, LastWake: p.lastWake(), LastError: p.lastError,
	}
	switch {
	case p.watched() && !p.permanent:
		s.IdleAt = later(m.idleAt(p), m.matesUntil(p))
	case p.backingOff:
		s.RetryAt = m.deadlines.of(p)
	case p.state == Idle:
		s.IdleSince = p.idleSince
	}
	return s
}

// Subscribe returns a subscription to the changes from now on. It must be closed,
// or it goes on until the manager is.
func (m *Manager) Subscribe() (*Subscription, error) {
	s := &Subscription{ready: make(chan struct{}, 1)}
	s.close = func() {
		s.end()
		_ = m.do(func() error { delete(m.subscribers, s); return nil })
	}
	err := m.do(func() error { m.subscribers[s] = true; return nil })
	return s, err
}

// publish tells the subscribers that the peer came from another state, by a
// wake if it is not the zero one.
func (m *Manager) publish(p *peer, at time.Time, from State, wake Wake, failure error) {
	change := Change{Time: at, Key: p.Key, From: from, To: p.state, Wake: wake, Err: failure}
	for s := range m.subscribers {
		s.add(change)
	}
}
