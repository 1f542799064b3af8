// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"context"
	"errors"
	"slices"
	"testing/synctest"
	"time"
)

// compare fails the walk if manager and model do not agree in everything.
func (w *walk) compare() {
	all, err := w.manager.Peers()
	w.wants(err, nil)
	if len(all) != len(w.model.peers) {
		w.Fatalf("there are %d peers, want %d", len(all), len(w.model.peers))
	}
	for _, s := range all {
		n := s.Key[0]
		p := w.model.peers[n]
		if p == nil {
			w.Fatalf("there is a peer %d", n)
		}
		if err := p.agrees(s, w.model.idleAt(p)); err != nil {
			w.Fatalf("peer %d: %v: %+v", n, err, s)
		}
		record := w.detector.peer(address(n))
		if record.gate != p.record.gate || record.waiting != p.record.waiting {
			w.Fatalf("peer %d: gate is %b, want %b; %d packets wait, want %d",
				n, record.gate, p.record.gate, record.waiting, p.record.waiting)
		}
	}
	for call, begun := range w.model.begun {
		for _, n := range numbers {
			if got := w.connector.count(call.String(), key(n)); got != begun[n] {
				w.Fatalf("peer %d has had %d calls of %s, want %d", n, got, call, begun[n])
			}
		}
	}
	for _, n := range numbers {
		var want State
		if p := w.model.peers[n]; p != nil {
			want = p.state
		}
		if got := w.states[key(n)]; got != want {
			w.Fatalf("changes lead peer %d to %q, want %q", n, got, want)
		}
	}
}

// pass lets time pass, and stops whenever something happens.
func (w *walk) pass(d time.Duration) {
	end := w.model.now.Add(d)
	for {
		next := w.model.next()
		if next.IsZero() || next.After(end) {
			next = end
		}
		time.Sleep(time.Until(next))
		w.learn()
		w.model.now = time.Now()
		w.model.elapse()
		if next.Equal(end) {
			return
		}
		w.compare()
	}
}

// learn lets the manager come to rest, and tells the model in which order it
// got to its peers.
func (w *walk) learn() {
	synctest.Wait()
	w.readChanges()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.model.armed = append(w.model.armed, w.armed...)
	w.armed = nil
}

// readChanges reads the changes, which must lead from state to state.
func (w *walk) readChanges() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for {
		c, err := w.changes.Next(ctx)
		if err != nil {
			return
		}
		if c.From != w.states[c.Key] {
			w.Fatalf("%s, after %q", text(c), w.states[c.Key])
		}
		w.states[c.Key] = c.To
		if c.To == Connecting {
			w.model.woken = append(w.model.woken, c.Key[0])
		}
	}
}

// agrees says what of a status is not as it should be, if anything. It learns
// how long the manager has decided to leave the peer alone.
func (p *modelPeer) agrees(s Status, idleAt time.Time) error {
	if !p.failedAt.IsZero() && p.retryAt.IsZero() {
		most := min(minBackOff<<min(p.failures-1, 20), maxBackOff)
		if d := s.RetryAt.Sub(p.failedAt); d < most/2 || d > most {
			return errors.New("left alone for " + d.String())
		}
		p.retryAt = s.RetryAt
	}
	retryAt := p.retryAt
	if p.failedAt.IsZero() {
		retryAt = time.Time{}
	}
	switch {
	case s.State != p.state:
		return errors.New("state should be " + p.state.String())
	case s.Permanent != p.permanent:
		return errors.New("permanent is wrong")
	case s.Evicted != p.evicted:
		return errors.New("evicted is wrong")
	case !slices.Equal(s.Groups, p.groups):
		return errors.New("groups are wrong")
	case s.Wakes != p.wakes || s.LastWake.Reason != p.wake || !s.LastWake.Time.Equal(p.wokenAt):
		return errors.New("wakes are wrong; the last should be by " + p.wake.String())
	case !errors.Is(s.LastError, p.err):
		return errors.New("last error is wrong")
	case !s.IdleAt.Equal(idleAt):
		return errors.New("should be idle at " + idleAt.String())
	case !s.RetryAt.Equal(retryAt):
		return errors.New("should be left alone until " + retryAt.String())
	case s.Activity != p.record.activity:
		return errors.New("activity is wrong")
	}
	return nil
}
