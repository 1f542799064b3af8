// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lazybpf/lazybpf/internal/wg"
	"github.com/lazybpf/lazybpf/pkg/control"
	"github.com/lazybpf/lazybpf/pkg/detect"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// backend answers the commands. It is a server.Backend.
type backend struct{ *Daemon }

// current is the session of now. Error: control.ErrNoInterface.
func (b backend) current() (*session, error) {
	s, _ := b.now()
	if s == nil {
		return nil, b.isGone()
	}
	return s, nil
}

func (d *Daemon) isGone() error {
	return fmt.Errorf("%s: %w: its peers are managed again once it is there", d.options.Interface, control.ErrNoInterface)
}

// explain says what it means that a session's manager is closed.
func (s *session) explain(err error) error {
	if errors.Is(err, lazy.ErrClosed) {
		return s.d.isGone()
	}
	return err
}

// Status reads what the daemon has in memory, never the device.
func (b backend) Status(ctx context.Context, filter control.Filter) (control.Status, error) {
	policy := b.policy.Load()
	threshold := policy.options.InactivityThreshold
	if threshold == 0 {
		threshold = lazy.DefaultThreshold
	}
	s, since := b.now()
	status := control.Status{
		Interface:           b.options.Interface,
		InactivityThreshold: threshold.String(),
		Since:               since,
	}
	if s == nil {
		if len(filter.Peers) > 0 {
			return control.Status{}, b.isGone()
		}
		return status, nil
	}
	keys, err := s.resolve(filter.Peers)
	if err != nil {
		return control.Status{}, err
	}
	peers, err := s.manager.Peers()
	if errors.Is(err, lazy.ErrClosed) {
		return b.Status(ctx, filter) // that session has just ended
	}
	if err != nil {
		return control.Status{}, err
	}
	status.Attach = s.detector.Attached()
	count := make(map[string]int)
	for _, p := range peers {
		count[kind(p)]++
	}
	status.Counts = control.Counts{
		Idle: count[control.StateIdle], Connecting: count[control.StateConnecting],
		Connected: count[control.StateConnected], Permanent: count[control.KindPermanent],
	}
	// To describe a peer costs more than all else here, so it comes last.
	peers = slices.DeleteFunc(peers, func(p lazy.Status) bool {
		return len(filter.Kinds) > 0 && !slices.Contains(filter.Kinds, kind(p)) ||
			len(filter.Peers) > 0 && !slices.Contains(keys, p.Key) ||
			!filter.Since.IsZero() && idleSince(p, filter.Since)
	})
	now, known := time.Now(), s.peersNow()
	status.Peers = make([]control.Peer, len(peers))
	for i, p := range peers {
		device, _ := known.get(p.Key)
		status.Peers[i] = describe(p, device, policy.peers[p.Key].Name, now)
		status.Peers[i].Evicted = s.connector.Evicted(p.Key)
	}
	slices.SortFunc(status.Peers, func(a, b control.Peer) int { return strings.Compare(a.PublicKey, b.PublicKey) })
	return status, nil
}

// idleSince says that a peer was idle at a time and ever since, and that not
// even a packet has passed.
func idleSince(p lazy.Status, since time.Time) bool {
	asleep := p.State == lazy.Idle && p.RetryAt.IsZero()
	return asleep && p.IdleSince.Before(since) && p.Activity.Last().Before(since)
}

func describe(p lazy.Status, device wg.Peer, name string, now time.Time) control.Peer {
	peer := control.Peer{
		PublicKey:  p.Key.String(),
		Name:       name,
		State:      p.State.String(),
		Permanent:  p.Permanent,
		AllowedIPs: make([]string, len(p.AllowedIPs)),
		LastTx:     optional(p.Activity.LastTx),
		LastRx:     optional(p.Activity.LastRx),
		TxPackets:  p.Activity.TxPackets,
		TxBytes:    p.Activity.TxBytes,
		RxPackets:  p.Activity.RxPackets,
		RxBytes:    p.Activity.RxBytes,
		Wakes:      p.Wakes,
		Held:       p.Activity.Held,
		Replayed:   p.Activity.Replayed,
		Dropped:    p.Activity.Dropped,
		RetryAt:    optional(p.RetryAt),
	}
	if device.Endpoint.IsValid() {
		peer.Endpoint = device.Endpoint.String()
	}
	for i, prefix := range p.AllowedIPs {
		peer.AllowedIPs[i] = prefix.String()
	}
	if !p.IdleAt.IsZero() {
		peer.IdleIn = max(p.IdleAt.Sub(now), 0).Round(time.Second).String()
	}
	if p.LastWake.Reason != 0 {
		peer.LastWake = &control.Wake{
			Reason: p.LastWake.Reason.String(),
			At:     p.LastWake.Time,
			Took:   took(p.LastWake),
			Flow:   p.LastWake.Event.Flow.String(),
			UID:    uid(p.LastWake),
		}
	}
	if p.LastError != nil {
		peer.LastError = p.LastError.Error()
	}
	return peer
}

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func took(w lazy.Wake) string {
	if w.Took == 0 {
		return ""
	}
	return w.Took.Round(10 * time.Microsecond).String()
}

// uid is the user whose packet woke the peer, if one did.
func uid(w lazy.Wake) *uint32 {
	if w.Reason != lazy.ReasonEgress || w.Event.UID == detect.NoUID {
		return nil
	}
	return &w.Event.UID
}

// Events sends changes as they come.
func (b backend) Events(ctx context.Context, begin func() error, send func(control.Event) error) error {
	changes, err := b.subscribe()
	if err != nil {
		return err
	}
	defer b.unsubscribe(changes)
	if err := begin(); err != nil {
		return err
	}
	return changes.each(ctx, func(c lazy.Change) error {
		return send(control.Event{
			Time:      c.Time,
			Interface: b.options.Interface,
			PublicKey: c.Key.String(),
			From:      c.From.String(),
			To:        c.To.String(),
			Reason:    c.Wake.Reason.String(),
			Flow:      c.Wake.Event.Flow.String(),
			UID:       uid(c.Wake),
		})
	})
}

// Wake opens peers and waits until they are, or could not be.
func (b backend) Wake(ctx context.Context, names []string) ([]control.Result, error) {
	begin := time.Now()
	s, err := b.current()
	if err != nil {
		return nil, err
	}
	changes, err := s.manager.Subscribe()
	if err != nil {
		return nil, s.explain(err)
	}
	defer changes.Close()
	results, err := s.each(names, s.manager.ActivatePeer)
	if err != nil {
		return nil, err
	}
	for i := range results {
		r := &results[i]
		status := s.refresh(r)
		for status.State == lazy.Connecting {
			if _, err := changes.Next(ctx); err != nil {
				return nil, s.explain(err)
			}
			status = s.refresh(r)
		}
		switch woke := status.LastWake; {
		case status.State == 0:
			r.Error = "it was removed from the interface"
		case status.State == lazy.Idle && status.LastError != nil:
			r.Error = status.LastError.Error()
		case !woke.Time.Add(woke.Took).Before(begin): // else it was awake before
			r.Took = took(woke)
		}
	}
	return results, nil
}

// Sleep parks peers.
func (b backend) Sleep(_ context.Context, names []string) ([]control.Result, error) {
	s, err := b.current()
	if err != nil {
		return nil, err
	}
	return s.each(names, s.manager.DeactivatePeer)
}

// Exclude makes peers permanent.
func (b backend) Exclude(_ context.Context, names []string) ([]control.Result, error) {
	return b.setExcluded(names, true)
}

// Include makes permanent peers lazy again.
func (b backend) Include(_ context.Context, names []string) ([]control.Result, error) {
	return b.setExcluded(names, false)
}

func (b backend) setExcluded(names []string, excluded bool) ([]control.Result, error) {
	// The lock keeps two changes of the list from undoing one another; the
	// manager never calls back.
	b.applying.Lock()
	defer b.applying.Unlock()
	s, err := b.current()
	if err != nil {
		return nil, err
	}
	keys, err := s.resolve(names)
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		b.byHand[key] = excluded
	}
	if err := s.exclude(); err != nil {
		return nil, err
	}
	return s.each(names, func(lazy.Key) error { return nil })
}

func (s *session) resolve(names []string) ([]lazy.Key, error) {
	known := s.peersNow()
	keys := make([]lazy.Key, len(names))
	for i, name := range names {
		var err error
		if keys[i], err = s.d.policy.Load().resolve(known, name); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// each does something to all peers that are named, or to none.
func (s *session) each(names []string, do func(lazy.Key) error) ([]control.Result, error) {
	keys, err := s.resolve(names)
	if err != nil {
		return nil, err
	}
	results := make([]control.Result, len(names))
	for i, key := range keys {
		results[i] = control.Result{Peer: names[i], PublicKey: key.String()}
		switch err := do(key); {
		case errors.Is(err, lazy.ErrClosed):
			return nil, s.explain(err)
		case err != nil:
			results[i].Error = err.Error()
		}
		s.refresh(&results[i])
	}
	return results, nil
}

// refresh fills in the state that the peer has now, and returns all of it.
func (s *session) refresh(r *control.Result) lazy.Status {
	key, err := lazy.ParseKey(r.PublicKey)
	if err != nil {
		return lazy.Status{}
	}
	status, _ := s.manager.Peer(key) // in no state if it is gone
	r.State = status.State.String()
	return status
}
