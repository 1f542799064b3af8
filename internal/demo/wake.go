// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lazybpf/lazybpf/pkg/control"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// wake is a peer's way from one sleep to the next.
type wake struct {
	reason    lazy.Reason
	flow      string        // of the packet that woke it
	took      time.Duration // from that packet until the peer was connected
	roundTrip time.Duration // of that packet and its answer
	plain     time.Duration // the same with plain WireGuard
	silence   time.Duration // until the peer slept again
}

// wake has the probe wake the sleeping peer, calls tell, and waits until the peer sleeps again.
func (d *demo) wake(ctx context.Context, s *service, p *probe, tell func(wake)) (wake, error) {
	if err := d.forgetSessions(ctx); err != nil {
		return wake{}, err
	}
	t, err := p.open()
	if err != nil {
		return wake{}, err
	}
	defer t.Close()

	w, err := d.rouse(ctx, s, p, t)
	if err != nil {
		return wake{}, fmt.Errorf("%s: %w", p.name, err)
	}
	tell(w)
	if w.silence, err = d.fallAsleep(ctx, s); err != nil {
		return wake{}, fmt.Errorf("after %s: %w", p.name, err)
	}
	d.counts.add(t.tally())
	d.wakes = append(d.wakes, w)
	return w, nil
}

// rouse asks, and sees that this and nothing else connects the peer.
func (d *demo) rouse(ctx context.Context, s *service, p *probe, t talk) (wake, error) {
	trip, err := ask(ctx, t, patience)
	if err != nil {
		return wake{}, err
	}
	want := p.reason.String() + " " + t.flow().String()
	for _, state := range []string{control.StateConnecting, control.StateConnected} {
		e, err := s.next(ctx, state, patience)
		if err != nil {
			return wake{}, err
		}
		if got := strings.TrimSpace(e.Reason + " " + e.Flow); got != want {
			return wake{}, fmt.Errorf("the peer is %s by %s, expected %s", state, got, want)
		}
	}
	if d.keepalives.awake, err = d.awaitKeepalive(ctx, d.keepalives.before); err != nil {
		return wake{}, err
	}
	peer, err := s.peer(ctx)
	if err != nil {
		return wake{}, err
	}
	if peer.LastWake == nil {
		return wake{}, errors.New("the daemon does not say what woke the peer")
	}
	took, err := time.ParseDuration(peer.LastWake.Took)
	return wake{reason: p.reason, flow: peer.LastWake.Flow, took: took, roundTrip: trip, plain: p.plain}, err
}

// fallAsleep waits until the daemon puts the peer to sleep, and returns how long it had been silent.
func (d *demo) fallAsleep(ctx context.Context, s *service) (time.Duration, error) {
	e, err := s.next(ctx, control.StateIdle, threshold+patience)
	if err != nil {
		return 0, err
	}
	if d.keepalives.asleep, err = d.awaitKeepalive(ctx, 0); err != nil {
		return 0, err
	}
	peer, err := s.peer(ctx)
	if err != nil {
		return 0, err
	}
	return e.Time.Sub(lastActivity(peer)), nil
}

// lastActivity is the zero time for a peer that had none.
func lastActivity(p control.Peer) time.Time {
	var last time.Time
	for _, t := range []*time.Time{p.LastTx, p.LastRx} {
		if t != nil && t.After(last) {
			last = *t
		}
	}
	return last
}
