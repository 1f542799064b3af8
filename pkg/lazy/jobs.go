// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

// This file makes the connector calls whose turn has come, beside the owning
// goroutine, and takes what comes of them.

// job is a connector call that runs.
type job struct {
	peer      *peer
	call      call
	abandoned bool // nobody waits for it any longer, and it does not count
	timeout   error
	cancel    context.CancelFunc
}

// result is what came of a job.
type result struct {
	job     *job
	err     error
	again   time.Time // when to try again, of an Evict
	overdue bool      // it has not returned yet
}

// start makes the peer's next call.
func (m *Manager) start(p *peer) {
	ctx, cancel := context.WithTimeout(m.ctx, m.options.OpenTimeout)
	j := &job{peer: p, call: p.next, cancel: cancel}
	j.timeout = fmt.Errorf("%s %w after %s", j.call, ErrTimeout, m.options.OpenTimeout)
	m.forgetTurn(p)
	m.calls.running[p.Key] = j
	var work func() result
	key := p.Key
	switch j.call {
	case callOpen:
		m.calls.opens++
		id, wake, evicted, received := p.id, *p.wake, p.evicted, p.received
		ctx = context.WithValue(ctx, answered{}, func() bool {
			activity, _ := m.detector.Activity(id)
			return activity.RxPackets != received
		})
		work = func() result { return result{err: m.callOpen(ctx, key, id, wake, evicted)} }
	case callClose:
		m.calls.closes++
		work = func() result { return result{err: m.connector.Close(ctx, key)} }
	case callEvict:
		m.calls.closes++
		evicting := m.connector.(EvictingConnector)
		work = func() result {
			again, err := evicting.Evict(ctx, key)
			return result{err: err, again: again}
		}
	}
	// Whoever does not return in time holds up no other peer.
	stop := context.AfterFunc(ctx, func() { m.report(result{job: j, overdue: true}) })
	m.jobs.Go(func() {
		defer cancel()
		r := work()
		stop()
		if ctx.Err() != nil && errors.Is(r.err, context.DeadlineExceeded) {
			r.err = j.timeout
		}
		r.job = j
		m.report(r)
	})
}

func (m *Manager) report(r result) {
	select {
	case m.results <- r:
	case <-m.ended:
	}
}

// callOpen has the connector open a peer, and sends what is held of it. It runs
// beside the owning goroutine.
func (m *Manager) callOpen(ctx context.Context, key Key, id detect.ID, wake Wake, evicted bool) error {
	c := m.connector
	if early, ok := c.(ReadyConnector); ok && !evicted && early.Ready(key, wake) {
		if err := m.detector.Open(id); err != nil {
			return err
		}
	}
	if err := c.Open(ctx, key, wake); err != nil {
		return err
	}
	return m.detector.Open(id)
}

// answered is the key of what Answered asks, in the context of an Open.
type answered struct{}

// Answered says whether a packet from the peer has come since it woke; ctx is
// that of its Connector.Open, or comes from it. WireGuard then knows where the
// peer is, better than whoever is still looking for it: its endpoint should be
// left alone.
func Answered(ctx context.Context) bool {
	ask, ok := ctx.Value(answered{}).(func() bool)
	return ok && ask()
}

// abandon gives up a call: it no longer counts, but until it has returned the
// peer has no other.
func (m *Manager) abandon(j *job) {
	if j == nil || j.abandoned {
		return
	}
	j.abandoned = true
	if j.call == callOpen {
		m.calls.opens--
	} else {
		m.calls.closes--
	}
	j.cancel()
}

// finish takes the result of a connector call, and makes the calls that
// waited for its end.
func (m *Manager) finish(r result) {
	j, p := r.job, r.job.peer
	abandoned := j.abandoned
	if r.overdue && (abandoned || m.calls.running[p.Key] != j) {
		return // it has ended meanwhile, or is known to be
	}
	m.abandon(j)
	if r.overdue {
		r.err = j.timeout
	} else {
		delete(m.calls.running, p.Key)
	}
	if m.peers[p.Key] == p {
		m.conclude(p, r, abandoned)
	}
	if p := m.peers[p.Key]; p != nil {
		m.proceed(p)
	}
	m.callWaiting()
}

// conclude does what follows for the peer from a call's end, or from its being
// overdue. An abandoned call has been concluded before, but may still succeed.
func (m *Manager) conclude(p *peer, r result, abandoned bool) {
	switch {
	case r.job.call == callOpen && r.err == nil:
		m.forgetTurn(p)
		p.evicted = false
		m.step(p, opened, Wake{})
	case r.job.call == callOpen && !abandoned:
		p.stir().lastError = r.err
		m.step(p, openFailed, Wake{})
	case r.job.call != callOpen:
		if !errors.Is(r.err, context.Canceled) { // an Evict of a peer that is needed
			p.stir().lastError = r.err
		}
		if r.job.call == callEvict && !r.overdue {
			m.evictReturned(p, r)
		}
	}
}
