// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/lazybpf/lazybpf/internal/wg"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// sessionLifetime is how long a WireGuard session can be used after its
// handshake (REJECT_AFTER_TIME in the WireGuard paper): a peer with a younger
// one is connected.
const sessionLifetime = 180 * time.Second

// closedAtOnce is how many peers are closed in one go, so that who ends a daemon
// which has just begun waits for no more than what was closed to be given back.
const closedAtOnce = 1000

// manyPeers is how many a device has of which a reading leaves so much behind, by
// far more than is kept, that the system should have it back at once.
const manyPeers = 10_000

// read reads the device and follows it. Errors: wg.ErrNoDevice if it is gone.
func (s *session) read(ctx context.Context) error {
	begin := time.Now()
	peers, err := s.device.Peers()
	s.d.metrics.Read(time.Since(begin))
	if err != nil {
		return err
	}
	s.d.applying.Lock()
	defer s.d.applying.Unlock()
	return s.follow(ctx, begin, peers, wg.Record{})
}

// follow brings manager and connector to what the device had when it was read,
// which was not before since. The keepalives of peers that are new here are
// those of left, where a daemon that died has changed them.
func (s *session) follow(ctx context.Context, since time.Time, peers []wg.Peer, left wg.Record) error {
	if len(peers) >= manyPeers {
		defer debug.FreeOSMemory()
	}
	reading, err := s.connector.Observe(since, peers, s.known.has)
	now := newRoster(reading.Peers)
	added, changed, missing := now.since(s.known)
	removed, stay, again := s.removed(since, missing)
	now = newRoster(append(now, stay...))

	errs := []error{err, again, s.changePeers(now, changed), s.removePeers(removed)}
	if len(added)+len(changed) > 0 {
		errs = append(errs, s.excludeNamed(now))
	}
	if len(added) > 0 {
		failed, err := s.addPeers(ctx, added, left)
		now = slices.DeleteFunc(now, func(p wg.Peer) bool { return failed[p.Key] })
		errs = append(errs, err)
	}
	s.mu.Lock()
	s.known = now
	s.mu.Unlock()
	for _, key := range reading.Returned {
		s.d.log.WithField("peer", key).Info("evicted peer was put back by somebody else: adopted as it is")
		errs = append(errs, s.manager.ReportReturned(key))
	}
	for _, key := range reading.Silent {
		s.d.log.WithField("peer", key).Debug("peer does not answer: trying its next address, if it has several")
		errs = append(errs, s.connector.TryNext(key))
	}
	s.relocate(now.those(reading.Silent))
	for _, key := range reading.Drifted {
		s.d.log.WithField("peer", key).Debug("keepalive was changed by somebody else: adopted")
	}
	if n := len(reading.Drifted); n > 0 {
		s.d.log.WithField("peers", n).Info("keepalives were changed by somebody else: adopted")
	}
	if len(removed)+len(reading.Drifted)+len(reading.Unsettled) > 0 {
		errs = append(errs, s.settle(reading.Unsettled...))
	}
	errs = append(errs, s.recall()) // who was on the way when eviction was turned off
	s.d.metrics.Drifted(len(reading.Drifted))
	if n := len(added) + len(changed) + len(removed); n > 0 && s.managing {
		s.d.metrics.Changed(len(added), len(changed), len(removed))
		s.d.log.WithFields(logrus.Fields{
			"added": len(added), "changed": len(changed), "removed": len(removed),
		}).Info("peers of the interface changed")
	}
	return errors.Join(errs...)
}

// settle makes the device have what it should for peers. The journal comes first:
// what it does not know is lost in a crash.
func (s *session) settle(peers ...lazy.Key) error {
	if err := s.journal.Save(s.connector.Record()); err != nil {
		return err
	}
	var errs []error
	for _, key := range peers {
		errs = append(errs, s.connector.Settle(key))
	}
	return errors.Join(errs...)
}

// removed parts the peers that are missing in a reading into those that were
// removed and those that stay. The kernel ends a reading early if somebody removes
// the peer that is next; so nothing counts as removed before a second reading
// does not have it either.
func (s *session) removed(since time.Time, missing []wg.Peer) (removed []lazy.Key, stay []wg.Peer, err error) {
	gone := func(p wg.Peer) bool { return s.connector.Removed(since, p.Key) }
	if !slices.ContainsFunc(missing, gone) {
		return nil, missing, nil
	}
	again, err := s.device.Peers()
	there := newRoster(again)
	for _, p := range missing {
		if err == nil && !there.has(p.Key) && gone(p) {
			removed = append(removed, p.Key)
		} else {
			stay = append(stay, p)
		}
	}
	return removed, stay, err
}

// addPeers makes peers managed: those with a session connected, others idle.
// It returns those that it could not add, which are to be tried again.
func (s *session) addPeers(ctx context.Context, peers []wg.Peer, left wg.Record) (failed map[lazy.Key]bool, err error) {
	begin, policy := time.Now(), s.d.policy.Load()
	connected := func(p wg.Peer) bool { return begin.Sub(p.LastHandshake) < sessionLifetime }
	var dormant, awake []lazy.Key
	var errs []error
	failed = make(map[lazy.Key]bool)
	for _, p := range peers {
		s.connector.Adopt(p, left.Original(s.device, p), connected(p))
		s.connector.SetKeepalive(p.Key, policy.peers[p.Key].Keepalive)
		if connected(p) {
			awake = append(awake, p.Key)
		} else {
			dormant = append(dormant, p.Key)
		}
	}
	if err := s.journal.Save(s.connector.Record()); err != nil {
		for _, p := range peers {
			s.connector.Forget(p.Key)
			failed[p.Key] = true
		}
		return failed, errors.Join(append(errs, err)...)
	}
	for _, key := range awake {
		errs = append(errs, s.connector.Settle(key))
	}
	for some := range slices.Chunk(dormant, closedAtOnce) {
		if err := ctx.Err(); err != nil {
			return nil, errors.Join(append(errs, err)...)
		}
		errs = append(errs, s.connector.CloseAll(some))
	}
	for _, p := range peers {
		if err := ctx.Err(); err != nil {
			return nil, errors.Join(append(errs, err)...)
		}
		var err error
		if connected(p) {
			err = s.manager.AddActivePeers(policy.managed(p))
		} else {
			_, err = s.manager.AddPeer(policy.managed(p))
		}
		if err != nil {
			failed[p.Key] = true
			errs = append(errs, err, s.connector.Release(p.Key))
		}
	}
	return failed, errors.Join(errs...)
}

// changePeers gives peers other allowed IPs. In now it puts back what it could
// not change, so that it is tried again.
func (s *session) changePeers(now roster, peers []wg.Peer) error {
	var errs []error
	for _, p := range peers {
		if err := s.manager.UpdatePeer(s.d.policy.Load().managed(p)); err != nil {
			i, _ := now.find(p.Key)
			now[i], _ = s.known.get(p.Key)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (s *session) removePeers(keys []lazy.Key) error {
	var errs []error
	for _, key := range keys {
		errs = append(errs, s.d.removePeer(s.manager, key))
		s.connector.Forget(key) // of which nobody asks anything any more
	}
	return errors.Join(errs...)
}
