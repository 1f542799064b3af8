// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

// This file does what decide says. All of it runs in the owning goroutine,
// except the connector calls, which the last functions start and take back.

// packet takes an event of the detector's.
func (m *Manager) packet(event detect.Event) {
	p := m.byID[event.ID]
	if p == nil || event.Time.Before(p.armedAt) {
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
	next, do := decide(m.view(p), in, now)
	p.state = next
	var failure error
	switch do {
	case nothing:
	case open:
		p.wake = wake
		m.open(p)
	case settle:
		m.settle(p, now)
	case watch:
		m.watch(p)
	case park:
		m.park(p, from)
	case giveUp:
		if in == deadline {
			p.lastError = m.timeout()
		}
		failure = p.lastError
		m.giveUp(p)
	case rearm:
		m.arm(p)
	}
	if p.state != from {
		m.publish(p, from, failure)
	}
}

func (m *Manager) view(p *peer) view {
	v := view{state: p.state, permanent: p.permanent, backingOff: p.state == Idle && !p.due.IsZero()}
	if p.state == Connected {
		activity, _ := m.options.Detector.Activity(p.id)
		v.idleAt = m.idleAt(p, activity)
	}
	return v
}

// idleAt is when a connected peer will have been silent for its threshold.
func (m *Manager) idleAt(p *peer, activity detect.Activity) time.Time {
	last := activity.Last()
	if last.Before(p.since) {
		last = p.since
	}
	threshold := p.Threshold
	if threshold == 0 {
		threshold = m.options.InactivityThreshold
	}
	return last.Add(threshold)
}

// holds says whether the peer's packets wait for the connector.
func (m *Manager) holds(p *peer) bool {
	mode := p.Wake
	if mode == WakeDefault {
		mode = m.options.Wake
	}
	return mode == WakeHold
}

// settle notes that a peer has become connected, and watches it.
func (m *Manager) settle(p *peer, now time.Time) {
	p.since, p.failures, p.lastError = now, 0, nil
	p.wakes++
	p.wake.Took = now.Sub(p.wake.Time)
	m.watch(p)
}

// watch sets the deadline of a connected peer.
func (m *Manager) watch(p *peer) {
	if p.permanent {
		m.deadlines.set(p, time.Time{})
		return
	}
	activity, _ := m.options.Detector.Activity(p.id)
	m.deadlines.set(p, m.idleAt(p, activity))
}

// arm makes the next packet of the peer wake it.
func (m *Manager) arm(p *peer) {
	m.deadlines.set(p, time.Time{})
	p.armedAt = time.Now()
	// Only a detector that is closed, or does not know the peer, refuses.
	_ = m.options.Detector.Arm(p.id, m.holds(p))
}

// park puts a peer to sleep, unless it turns out that it is talked to: a
// packet between the decision and the arming has raised no event.
func (m *Manager) park(p *peer, from State) {
	before, _ := m.options.Detector.Activity(p.id)
	m.arm(p)
	after, _ := m.options.Detector.Activity(p.id)
	if before.Packets() != after.Packets() {
		_ = m.options.Detector.Open(p.id)
		p.state = Connected
		if from == Connected {
			m.watch(p)
		} else { // its Open, long given up, has succeeded just now
			m.settle(p, time.Now())
		}
		return
	}
	if m.running[p.Key] != nil {
		p.closeDue = true // a call for the peer that had this key before
		return
	}
	m.start(p, false)
}

// Bounds of the time that a peer is left alone after its Open failed.
const (
	minBackOff = time.Second
	maxBackOff = 5 * time.Minute
)

// giveUp lets WireGuard answer for the peer for a while: applications learn
// from it sooner than from silence that there is nobody.
func (m *Manager) giveUp(p *peer) {
	m.abandon(p.Key)
	_ = m.options.Detector.Discard(p.id)
	p.failures++
	m.deadlines.set(p, time.Now().Add(backOff(p.failures)))
	m.openWaiting()
}

// backOff doubles with each failure; half of it is by chance, so that peers
// that failed together do not come back together.
func backOff(failures int) time.Duration {
	d := min(minBackOff<<min(failures-1, 16), maxBackOff)
	return d/2 + rand.N(d/2+1)
}

// open starts an Open, or lets the peer wait until it may.
func (m *Manager) open(p *peer) {
	m.deadlines.set(p, time.Time{})
	if m.opens < m.options.MaxOpens && m.running[p.Key] == nil {
		m.start(p, true)
		return
	}
	if p.wake.Reason != ReasonRequest {
		m.waiting = append(m.waiting, p)
		return
	}
	// Somebody is waiting: in front of those that only a packet woke.
	i := slices.IndexFunc(m.waiting, func(other *peer) bool { return other.wake.Reason != ReasonRequest })
	if i < 0 {
		i = len(m.waiting)
	}
	m.waiting = slices.Insert(m.waiting, i, p)
}

// openWaiting starts what may start now.
func (m *Manager) openWaiting() {
	for i := 0; i < len(m.waiting) && m.opens < m.options.MaxOpens; {
		p := m.waiting[i]
		if m.running[p.Key] != nil { // its Close, or an Open that is overdue
			i++
			continue
		}
		m.waiting = slices.Delete(m.waiting, i, i+1)
		m.start(p, true)
	}
}

func (m *Manager) forgetWaiting(p *peer) {
	m.waiting = slices.DeleteFunc(m.waiting, func(other *peer) bool { return other == p })
}

// job is a connector call that runs.
type job struct {
	peer      *peer
	opens     bool // Open, else Close
	abandoned bool // nobody waits for this Open any longer
	cancel    context.CancelFunc
}

// result is what came of a job.
type result struct {
	job *job
	err error
}

// start calls the connector for a peer for which no call runs.
func (m *Manager) start(p *peer, opens bool) {
	ctx, cancel := context.WithTimeout(m.ctx, m.options.OpenTimeout)
	j := &job{peer: p, opens: opens, cancel: cancel}
	m.running[p.Key] = j
	if opens {
		m.opens++
		m.deadlines.set(p, time.Now().Add(m.options.OpenTimeout))
	}
	key, id, wake := p.Key, p.id, p.wake
	m.jobs.Go(func() {
		defer cancel()
		var err error
		if opens {
			err = m.callOpen(ctx, key, id, wake)
		} else {
			err = m.options.Connector.Close(ctx, key)
		}
		select {
		case m.results <- result{j, err}:
		case <-m.ended:
		}
	})
}

// callOpen has the connector open a peer, and sends what is held of it. It runs
// beside the owning goroutine.
func (m *Manager) callOpen(ctx context.Context, key Key, id detect.ID, wake Wake) error {
	c := m.options.Connector
	if early, ok := c.(ReadyConnector); ok && early.Ready(key, wake) {
		if err := m.options.Detector.Open(id); err != nil {
			return err
		}
	}
	err := c.Open(ctx, key, wake)
	switch {
	case err == nil:
		return m.options.Detector.Open(id)
	case ctx.Err() != nil && errors.Is(err, context.DeadlineExceeded):
		return m.timeout()
	}
	return err
}

// abandon gives up an Open that runs for this key. It no longer counts among
// the Opens at once, but until it has returned the peer has no other call.
func (m *Manager) abandon(key Key) {
	if j := m.running[key]; j != nil && j.opens && !j.abandoned {
		j.abandoned = true
		m.opens--
		j.cancel()
	}
}

// finish takes the result of a connector call, and makes the calls that
// waited for its end.
func (m *Manager) finish(r result) {
	key, abandoned := r.job.peer.Key, r.job.abandoned
	m.abandon(key)
	delete(m.running, key)
	if p := r.job.peer; m.peers[key] == p {
		switch {
		case !r.job.opens:
			p.lastError = r.err
		case r.err == nil:
			m.forgetWaiting(p)
			m.step(p, opened, Wake{})
		case !abandoned:
			p.lastError = r.err
			m.step(p, openFailed, Wake{})
		}
	}
	if p := m.peers[key]; p != nil && p.closeDue && m.running[key] == nil {
		p.closeDue = false
		if p.state == Idle {
			m.start(p, false)
		}
	}
	m.openWaiting()
}

func (m *Manager) timeout() error {
	return fmt.Errorf("%w after %s", ErrTimeout, m.options.OpenTimeout)
}
