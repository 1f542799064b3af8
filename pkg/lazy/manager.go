// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"context"
	"fmt"
	"slices"
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
	options Options
	calls   chan func()
	results chan result
	quit    chan struct{} // closed to end the goroutine
	ended   chan struct{} // closed when it has ended
	once    sync.Once

	ctx    context.Context // of all connector calls
	cancel context.CancelFunc
	jobs   sync.WaitGroup

	// Of the owning goroutine alone.
	peers       map[Key]*peer
	byID        map[detect.ID]*peer
	excluded    map[Key]bool
	deadlines   *deadlines
	running     map[Key]*job // connector calls
	opens       int          // how many of these are Opens that count
	waiting     []*peer      // connecting, until another's Open is done
	subscribers map[*Subscription]bool
}

// peer is a peer of the manager's.
type peer struct {
	Peer
	id        detect.ID
	state     State
	permanent bool
	armedAt   time.Time // events of before are not of this dormancy
	since     time.Time // when it became connected
	failures  int       // Opens that failed in a row
	wakes     uint64
	wake      Wake
	lastError error
	closeDue  bool // Close waits for another call to return

	due   time.Time // its deadline, zero if it has none
	index int       // in the deadlines, -1 if it has none
}

// New starts a manager without peers. Errors are those of Validate.
func New(options Options) (*Manager, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	m := &Manager{
		options:     options.withDefaults(),
		calls:       make(chan func()),
		results:     make(chan result),
		quit:        make(chan struct{}),
		ended:       make(chan struct{}),
		peers:       make(map[Key]*peer),
		byID:        make(map[detect.ID]*peer),
		excluded:    make(map[Key]bool),
		deadlines:   newDeadlines(),
		running:     make(map[Key]*job),
		subscribers: make(map[*Subscription]bool),
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	go m.run()
	return m, nil
}

// Close ends the manager: connector calls are cancelled, and waited for no
// longer than half a second; subscriptions end. Peers and detector are left as
// they are. Closing again does nothing.
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
	events := m.options.Detector.Events()
	for {
		select {
		case <-m.quit:
			m.deadlines.timer.Stop()
			for s := range m.subscribers {
				s.end()
			}
			return
		case call := <-m.calls:
			call()
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
				// It wakes a permanent peer whose back-off is over.
				m.step(p, deadline, Wake{Reason: ReasonRequest, Time: now})
			}
		}
	}
}

// do runs f in the owning goroutine.
func (m *Manager) do(f func() error) error {
	done := make(chan error, 1)
	select {
	case m.calls <- func() { done <- f() }:
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

// AddPeer adds a dormant peer. If it is on the exclude list, it is opened and
// AddPeer says so. Errors: ErrPeerExists, ErrThreshold, ErrWakeMode, those of the detector;
// then the manager does not have the peer.
func (m *Manager) AddPeer(config Peer) (excluded bool, err error) {
	err = m.do(func() error {
		p, err := m.add(config)
		if err != nil {
			return err
		}
		p.state = Idle
		m.arm(p)
		m.publish(p, 0, nil)
		if excluded = m.excluded[p.Key]; excluded {
			m.exclude(p)
		}
		return nil
	})
	return excluded, err
}

// AddActivePeers adds peers that are connected already, or about to be: they
// are watched for inactivity from now on. Errors are those of AddPeer; peers
// that come before the one at fault are added.
func (m *Manager) AddActivePeers(configs ...Peer) error {
	return m.do(func() error {
		for _, config := range configs {
			p, err := m.add(config)
			if err != nil {
				return err
			}
			p.state, p.permanent = Connected, m.excluded[p.Key]
			p.since = time.Now()
			p.wake = Wake{Reason: ReasonStart, Time: p.since}
			m.watch(p)
			m.publish(p, 0, nil)
		}
		return nil
	})
}

// add makes a peer of the configuration, in no state yet.
func (m *Manager) add(config Peer) (*peer, error) {
	if m.peers[config.Key] != nil {
		return nil, fmt.Errorf("%w: %s", ErrPeerExists, config.Key)
	}
	if err := validPeer(config); err != nil {
		return nil, err
	}
	id, err := m.options.Detector.Add(config.AllowedIPs)
	if err != nil {
		return nil, fmt.Errorf("peer %s: %w", config.Key, err)
	}
	config.AllowedIPs = slices.Clone(config.AllowedIPs)
	p := &peer{Peer: config, id: id, index: -1}
	m.peers[p.Key], m.byID[id] = p, p
	return p, nil
}

// UpdatePeer changes what AddPeer was told, whatever the peer is doing. Errors:
// ErrUnknownPeer, ErrThreshold, ErrWakeMode, those of the detector; then
// nothing changes.
func (m *Manager) UpdatePeer(config Peer) error {
	return m.with(config.Key, func(p *peer) error {
		if err := validPeer(config); err != nil {
			return err
		}
		if err := m.options.Detector.SetPrefixes(p.id, config.AllowedIPs); err != nil {
			return fmt.Errorf("peer %s: %w", config.Key, err)
		}
		config.AllowedIPs = slices.Clone(config.AllowedIPs)
		held := m.holds(p)
		p.Peer = config
		switch {
		case p.state == Connected:
			m.watch(p)
		case p.state == Idle && p.due.IsZero() && held != m.holds(p):
			// The dormancy is the same: an event on its way still counts.
			_ = m.options.Detector.Arm(p.id, m.holds(p))
		}
		return nil
	})
}

// RemovePeer forgets a peer. What is held of it is dropped, and an Open that
// runs is cancelled. Error: ErrUnknownPeer.
func (m *Manager) RemovePeer(key Key) error {
	return m.with(key, func(p *peer) error {
		m.deadlines.set(p, time.Time{})
		m.forgetWaiting(p)
		m.abandon(key)
		delete(m.peers, key)
		delete(m.byID, p.id)
		from := p.state
		p.state, p.wake = 0, Wake{}
		m.publish(p, from, nil)
		m.openWaiting()
		return m.options.Detector.Remove(p.id)
	})
}

// ActivatePeer wakes a peer by hand, or because the remote asks for it. A peer
// that is awake stays so. Error: ErrUnknownPeer.
func (m *Manager) ActivatePeer(key Key) error {
	return m.with(key, func(p *peer) error {
		p.failures = 0
		m.step(p, request, Wake{Reason: ReasonRequest, Time: time.Now()})
		return nil
	})
}

// DeactivatePeer puts a connected peer to sleep by hand, or because the remote
// says that it goes idle. A permanent peer, and one that is connecting, takes no
// notice. Error: ErrUnknownPeer.
func (m *Manager) DeactivatePeer(key Key) error {
	return m.with(key, func(p *peer) error {
		m.step(p, sleep, Wake{})
		return nil
	})
}

// SetExcluded replaces the exclude list. Peers that are on it now and were not
// before are opened, if need be, and returned; those no longer on it are
// watched from now on. Keys of peers that come later count when they come.
func (m *Manager) SetExcluded(keys []Key) (added []Key, err error) {
	err = m.do(func() error {
		list := make(map[Key]bool, len(keys))
		for _, key := range keys {
			if p := m.peers[key]; p != nil && !m.excluded[key] && !list[key] {
				added = append(added, key)
			}
			list[key] = true
		}
		before := m.excluded
		m.excluded = list
		for key := range before {
			if p := m.peers[key]; p != nil && !list[key] {
				p.permanent = false
				p.since = time.Now()
				m.step(p, include, Wake{})
			}
		}
		for _, key := range added {
			m.exclude(m.peers[key])
		}
		return nil
	})
	return added, err
}

func (m *Manager) exclude(p *peer) {
	p.permanent = true
	m.step(p, exclude, Wake{Reason: ReasonRequest, Time: time.Now()})
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
		Peer: p.Peer, State: p.state, Permanent: p.permanent,
		Wakes: p.wakes, LastWake: p.wake, LastError: p.lastError,
	}
	s.AllowedIPs = slices.Clone(p.AllowedIPs)
	s.Activity, _ = m.options.Detector.Activity(p.id)
	switch {
	case p.state == Connected && !p.permanent:
		s.IdleAt = m.idleAt(p, s.Activity)
	case p.state == Idle:
		s.RetryAt = p.due
	}
	return s
}

// Subscribe returns a subscription to the changes from now on.
func (m *Manager) Subscribe() (*Subscription, error) {
	s := &Subscription{ready: make(chan struct{}, 1)}
	s.close = func() {
		s.end()
		_ = m.do(func() error { delete(m.subscribers, s); return nil })
	}
	err := m.do(func() error { m.subscribers[s] = true; return nil })
	return s, err
}

// publish tells the subscribers that the peer came from another state.
func (m *Manager) publish(p *peer, from State, failure error) {
	change := Change{Time: time.Now(), Key: p.Key, From: from, To: p.state, Err: failure}
	if p.state == Connecting || p.state == Connected {
		change.Wake = p.wake
	}
	for s := range m.subscribers {
		s.add(change)
	}
}
