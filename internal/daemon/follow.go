// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/lazybpf/lazybpf/internal/wg"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// WireGuard tells nobody that its peers were changed, so the device is read
// again and again: every followInterval, less often if that takes so long
// that it would keep the machine busy.
const (
	followInterval = 3 * time.Second
	followShare    = 50 // a reading takes at most 1/50 of the time
)

// sessionLifetime is how long a WireGuard session can be used after its
// handshake (REJECT_AFTER_TIME in the WireGuard paper): a peer with a younger
// one is connected.
const sessionLifetime = 180 * time.Second

// watch follows the device until it is gone or ctx is done.
func (d *Daemon) watch(ctx context.Context) error {
	wait := followInterval
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		begin := time.Now()
		peers, err := d.device.Peers()
		d.metrics.Read(time.Since(begin))
		if errors.Is(err, wg.ErrNoDevice) {
			return err
		}
		if err == nil {
			err = d.follow(begin, peers, nil)
		}
		if err != nil {
			d.log.WithError(err).Warn("cannot follow the interface, trying again")
		}
		wait = max(followInterval, followShare*time.Since(begin))
	}
}

// follow brings manager and connector to what the device had when it was read,
// which was not before since. The keepalives of peers that are new here are
// those of originals, where a daemon that died has left them off.
func (d *Daemon) follow(since time.Time, peers []wg.Peer, originals map[lazy.Key]time.Duration) error {
	d.applying.Lock()
	defer d.applying.Unlock()
	reading, err := d.connector.Observe(since, peers)
	now := make(map[lazy.Key]wg.Peer, len(reading.Peers))
	var added, changed []wg.Peer
	for _, p := range reading.Peers {
		now[p.Key] = p
		old, ok := d.known[p.Key]
		switch {
		case !ok:
			added = append(added, p)
		case !slices.Equal(old.AllowedIPs, p.AllowedIPs):
			changed = append(changed, p)
		}
	}
	removed, missing := d.missing(since, now)

	errs := []error{err, missing, d.changePeers(now, changed), d.removePeers(removed), d.addPeers(now, added, originals)}
	d.mu.Lock()
	first := len(d.known) == 0
	d.known = now
	d.mu.Unlock()
	for _, key := range reading.Returned {
		d.log.WithField("peer", key).Info("evicted peer was put back by somebody else: adopted as it is")
		errs = append(errs, d.manager.ReportReturned(key))
	}
	for _, key := range reading.Silent {
		d.log.WithField("peer", key).Debug("peer does not answer: trying its next address")
		errs = append(errs, d.connector.TryNext(key))
	}
	for _, key := range reading.Drifted {
		d.log.WithField("peer", key).Info("keepalive was changed by somebody else: adopted")
		errs = append(errs, d.connector.Settle(key))
	}
	if len(removed)+len(reading.Drifted) > 0 {
		errs = append(errs, d.journal.Save(d.connector.Originals()))
	}
	d.metrics.Drifted(len(reading.Drifted))
	if !first {
		d.metrics.Changed(len(added), len(changed), len(removed))
	}
	if n := len(added) + len(changed) + len(removed); n > 0 && !first {
		d.log.WithFields(logrus.Fields{
			"added": len(added), "changed": len(changed), "removed": len(removed),
		}).Info("peers of the interface changed")
	}
	return errors.Join(errs...)
}

// missing returns the known peers that were removed, and puts those back into
// now that only seem to be. The kernel ends a reading early if somebody removes
// the peer that is next; so nothing counts as removed before a second reading
// does not have it either.
func (d *Daemon) missing(since time.Time, now map[lazy.Key]wg.Peer) (removed []lazy.Key, err error) {
	for key, p := range d.known {
		if _, stays := now[key]; stays {
			continue
		}
		if d.connector.Removed(since, key) {
			removed = append(removed, key)
		} else {
			now[key] = p
		}
	}
	if len(removed) == 0 {
		return nil, nil
	}
	again, err := d.device.Peers()
	there := make(map[lazy.Key]bool, len(again))
	for _, p := range again {
		there[p.Key] = true
	}
	return slices.DeleteFunc(removed, func(key lazy.Key) bool {
		stays := err != nil || there[key]
		if stays {
			now[key] = d.known[key]
		}
		return stays
	}), err
}

// addPeers makes peers managed: those with a session connected, others idle.
// It takes out of now what it could not add, so that it is tried again.
func (d *Daemon) addPeers(now map[lazy.Key]wg.Peer, peers []wg.Peer, originals map[lazy.Key]time.Duration) error {
	if len(peers) == 0 {
		return nil
	}
	var dormant []lazy.Key
	for _, p := range peers {
		original := p.Keepalive
		if original == 0 {
			original = originals[p.Key]
		}
		d.connector.Adopt(p, original)
		if !connected(p) {
			dormant = append(dormant, p.Key)
		}
	}
	// The journal comes first: what it does not know is lost in a crash.
	errs := []error{d.journal.Save(d.connector.Originals()), d.connector.CloseAll(dormant)}
	policy := d.policy.Load()
	for _, p := range peers {
		errs = append(errs, d.connector.SetKeepalive(p.Key, policy.peers[p.Key].Keepalive))
		var err error
		if connected(p) {
			err = d.manager.AddActivePeers(policy.managed(p))
		} else {
			_, err = d.manager.AddPeer(policy.managed(p))
		}
		if err != nil {
			delete(now, p.Key)
			errs = append(errs, err, d.connector.Release(p.Key))
		}
	}
	return errors.Join(errs...)
}

// changePeers gives peers other allowed IPs. In now it puts back what it could
// not change, so that it is tried again.
func (d *Daemon) changePeers(now map[lazy.Key]wg.Peer, peers []wg.Peer) error {
	var errs []error
	for _, p := range peers {
		if err := d.manager.UpdatePeer(d.policy.Load().managed(p)); err != nil {
			now[p.Key] = d.known[p.Key]
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (d *Daemon) removePeers(keys []lazy.Key) error {
	var errs []error
	for _, key := range keys {
		d.connector.Forget(key)
		last, _ := d.manager.Peer(key)
		d.gone.add(last.Activity)
		errs = append(errs, d.manager.RemovePeer(key))
	}
	return errors.Join(errs...)
}

func connected(p wg.Peer) bool {
	return time.Since(p.LastHandshake) < sessionLifetime
}
