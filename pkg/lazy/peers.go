// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"errors"
	"fmt"
	"time"
)

// AddPeer adds a dormant peer, which the connector must have no part in: as
// after Close. If it is on the exclude list, it is opened and
// AddPeer says so; if its group is active, it is opened as well. Errors:
// ErrPeerExists, ErrThreshold, ErrWakeMode, those of the detector; then the
// manager does not have the peer.
func (m *Manager) AddPeer(config Peer) (excluded bool, err error) {
	err = m.do(func() error {
		p, err := m.add(config)
		if err != nil {
			return err
		}
		p.state = Idle
		m.arm(p, time.Now())
		m.publish(p, time.Now(), 0, Wake{}, nil)
		if excluded = m.excluded[p.Key]; excluded {
			m.exclude(p)
		}
		m.rally(p.Groups...)
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
			p.stir().since = time.Now()
			p.wake = &Wake{Reason: ReasonStart, Time: p.since}
			m.watch(p)
			m.publish(p, time.Now(), 0, *p.wake, nil)
			m.rally(p.Groups...)
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
	id, err := m.detector.Add(config.AllowedIPs)
	if err == nil && len(config.Rules) > 0 {
		if err = m.detector.SetRules(id, config.Rules); err != nil {
			err = errors.Join(err, m.detector.Remove(id))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("peer %s: %w", config.Key, err)
	}
	p := &peer{id: id, deadline: noDeadline, past: &noPast}
	p.configure(config)
	m.peers[p.Key], m.byID[id] = p, p
	m.groups.join(p)
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
		err := m.detector.SetRules(p.id, config.Rules)
		if err == nil {
			if err = m.detector.SetPrefixes(p.id, config.AllowedIPs); err != nil {
				err = errors.Join(err, m.detector.SetRules(p.id, p.Rules))
			}
		}
		if err != nil {
			return fmt.Errorf("peer %s: %w", config.Key, err)
		}
		before := p.Groups
		m.groups.leave(p)
		p.configure(config)
		m.groups.join(p)
		m.refresh(p)
		m.rewatch(before...)
		m.rewatch(p.Groups...)
		m.rally(p.Groups...)
		return nil
	})
}

// refresh brings what the peer's configuration has a say in up to date.
func (m *Manager) refresh(p *peer) {
	switch {
	case p.watched():
		m.watch(p)
	case p.state == Idle && !p.backingOff:
		if p.holding != (m.holds(p) || p.evicted) {
			m.setGate(p)
		}
	}
}

// RemovePeer forgets a peer. What is held of it is dropped, and an Open that
// runs is cancelled. The connector is not called for it any more: it is for
// the caller to let go of the peer, after RemovePeer. Error: ErrUnknownPeer.
func (m *Manager) RemovePeer(key Key) error {
	return m.with(key, func(p *peer) error {
		m.deadlines.set(p, time.Time{})
		m.forgetTurn(p)
		m.abandon(m.calls.running[key])
		delete(m.peers, key)
		delete(m.byID, p.id)
		m.groups.leave(p)
		from := p.state
		p.state = 0
		m.publish(p, time.Now(), from, Wake{}, nil)
		m.rewatch(p.Groups...)
		m.callWaiting()
		return m.detector.Remove(p.id)
	})
}

// ActivatePeer wakes a peer by hand, or because the remote asks for it. A peer
// that is awake stays so, one that waits to be opened goes before those that
// nobody asks for. Error: ErrUnknownPeer.
func (m *Manager) ActivatePeer(key Key) error {
	return m.with(key, func(p *peer) error {
		p.stir().failures = 0
		if p.next == callOpen && !p.urgent {
			p.urgent = true
			m.want(p, callOpen)
		}
		m.step(p, request, Wake{Reason: ReasonRequest, Time: time.Now()})
		return nil
	})
}

// DeactivatePeer puts a connected peer to sleep by hand, or because the remote
// says that it goes idle. Errors: ErrUnknownPeer; ErrStaysAwake if the peer is
// permanent, is being opened, is talked to at this moment, or another member of
// its group is active.
func (m *Manager) DeactivatePeer(key Key) error {
	return m.with(key, func(p *peer) error {
		needed := m.view(p, time.Now()).mates
		m.step(p, sleep, Wake{})
		switch {
		case p.state == Idle:
			return nil
		case p.permanent:
			return fmt.Errorf("%w: it is permanent", ErrStaysAwake)
		case needed:
			return fmt.Errorf("%w: another member of its group is active", ErrStaysAwake)
		case p.state == Connecting:
			return fmt.Errorf("%w: it is connecting", ErrStaysAwake)
		}
		return fmt.Errorf("%w: a packet came just now", ErrStaysAwake)
	})
}

// ReportDisconnected tells the manager that the connection of a connected peer
// broke, and that its owner is at work to have it back: the peer is connecting
// from now on. It goes idle when the threshold has passed without
// ReportConnected, traffic or not, and its next packet has it opened anew. A peer
// in another state takes no notice. Error: ErrUnknownPeer.
func (m *Manager) ReportDisconnected(key Key) error {
	return m.with(key, func(p *peer) error {
		m.step(p, lost, Wake{})
		return nil
	})
}

// ReportConnected tells the manager that a peer is connected: one whose
// connection broke is watched for inactivity again, a dormant one, which the
// remote has connected, is opened. While an Open runs it changes nothing: its
// end tells. Error: ErrUnknownPeer.
func (m *Manager) ReportConnected(key Key) error {
	return m.with(key, func(p *peer) error {
		m.step(p, found, Wake{Reason: ReasonRequest, Time: time.Now()})
		return nil
	})
}

// ReportReturned tells the manager that somebody else has put an evicted peer
// back on the device. It sleeps on, and is evicted again after
// Options.EvictAfter. A peer that is not evicted takes no notice, nor does one
// that is being opened. Error: ErrUnknownPeer.
func (m *Manager) ReportReturned(key Key) error {
	return m.with(key, func(p *peer) error {
		switch {
		case p.state != Idle || !p.evicted || p.next == callEvict || m.calls.running[key] != nil:
		case p.backingOff:
			p.evicted = false
		default:
			m.stay(p, time.Now().Add(m.options.EvictAfter))
		}
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
				p.stir().since = time.Now()
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

// expire takes a peer through its deadline. If that wakes it, it is because it
// is permanent or its group is active, and its back-off over.
func (m *Manager) expire(p *peer, now time.Time) {
	wake := Wake{Reason: ReasonGroup, Time: now}
	if p.permanent {
		wake.Reason = ReasonRequest
	}
	m.step(p, deadline, wake)
}
