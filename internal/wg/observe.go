// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"errors"
	"time"

	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// Reading is what the connector makes of a reading of the device.
type Reading struct {
	Peers     []Peer     // as on the device; those that are evicted as they will be
	Drifted   []lazy.Key // somebody else has set their keepalive
	Unsettled []lazy.Key // their keepalive is not what it should be: Settle
	Returned  []lazy.Key // somebody else has put them back while they were evicted
	Silent    []lazy.Key // they do not answer where they are, and may be elsewhere: TryNext, Move
}

// answerTime is how long a peer has to answer at an endpoint: WireGuard sends
// its next handshake initiation after 5 s (REKEY_TIMEOUT in the WireGuard paper),
// and that may as well go elsewhere.
const answerTime = 5 * time.Second

// Observe takes notice of what others have done: peers is what the device had,
// read not before since, and known says who was adopted. An evicted peer that is
// there again is taken as it is; one that is not loses the allowed IPs that
// others have now. Errors are those of writing the file of evicted peers, which is
// tried again with the next Observe.
func (c *Connector) Observe(since time.Time, peers []Peer, known func(lazy.Key) bool) (Reading, error) {
	r := Reading{Peers: peers}
	for _, p := range peers {
		m := c.peer(p.Key)
		if m == nil && p.Keepalive != 0 && known(p.Key) {
			m = c.stir(p.Key)
		}
		if m == nil {
			continue
		}
		m.observe(since, p, c.finder, &r)
	}
	if c.file == nil {
		return r, nil
	}
	errs := []error{c.file.drop(r.Returned...)}
	if away := c.file.all(); len(away) > 0 {
		on := newHoldings(peers)
		for _, e := range away {
			if on.peers[e.Key] {
				continue
			}
			e, err := c.yield(e, on)
			errs = append(errs, err)
			r.Peers = append(r.Peers, e.Peer)
		}
	}
	return r, errors.Join(append(errs, c.file.mend())...)
}

// observe takes notice of what others have done with a peer.
func (m *managed) observe(since time.Time, seen Peer, finder Finder, r *Reading) {
	if !m.mu.TryLock() {
		return // it is being changed: look again next time
	}
	defer m.mu.Unlock()
	if !m.changed.Before(since) {
		return
	}
	if m.evicted.Swap(nil) != nil {
		r.Returned = append(r.Returned, seen.Key)
	}
	if m.closed || seen.LastHandshake.After(m.changed) {
		m.untried = nil
	}
	// One that has a session still need not shake hands to answer.
	silent := since.Sub(m.changed) > answerTime && since.Sub(seen.LastHandshake) > lazy.MinEvictAfter
	if silent && !m.closed && (len(m.untried) > 0 || finder != nil && finder.Finds(seen.Key)) {
		r.Silent = append(r.Silent, seen.Key)
	}
	ours := m.unsure && Keepalive{m.original, m.open}.original(seen.Keepalive) == m.original
	if seen.Keepalive != m.now && !ours {
		m.original, m.open = seen.Keepalive, seen.Keepalive
		r.Drifted = append(r.Drifted, seen.Key)
	}
	m.now, m.unsure = seen.Keepalive, false
	if m.now != m.want() {
		r.Unsettled = append(r.Unsettled, seen.Key)
	}
}

// yield takes from an evicted peer the allowed IPs that others have got: had it
// been on the device, WireGuard would have done so.
func (c *Connector) yield(e *evicted, to holdings) (*evicted, error) {
	rest := e.without(to)
	if rest == e {
		return e, nil
	}
	m := c.peer(e.Key)
	if m == nil || !m.mu.TryLock() {
		return e, nil // it is being changed: look again next time
	}
	defer m.mu.Unlock()
	if m.evicted.Load() == nil {
		return e, nil
	}
	m.evicted.Store(rest)
	return rest, c.file.put(rest)
}

// Removed says whether somebody has removed a peer that was not on the device
// when it was read, not before since; else it was away because of Evict.
func (c *Connector) Removed(since time.Time, peer lazy.Key) bool {
	m := c.peer(peer)
	if m == nil {
		return true
	}
	if !m.mu.TryLock() {
		return false
	}
	defer m.mu.Unlock()
	return m.evicted.Load() == nil && m.changed.Before(since)
}
