// SPDX-License-Identifier: Apache-2.0

package lazy

import "time"

// evict has an idle peer taken off the device. From before that on its packets
// are held, since WireGuard has no place for them. One that has just passed is
// WireGuard's: its event is on the way, and the peer stays.
func (m *Manager) evict(p *peer, now time.Time) {
	if p.next == callClose { // first things first
		m.evictAt(p, now.Add(m.options.EvictAfter))
		return
	}
	p.evicted = true
	m.setGate(p)
	if m.stirring(p) {
		m.stay(p, now.Add(m.options.EvictAfter))
		return
	}
	m.want(p, callEvict)
}

// evictReturned takes the result of an Evict: gone, or not yet.
func (m *Manager) evictReturned(p *peer, r result) {
	switch {
	case p.state != Idle: // it was woken meanwhile: its Open is next
		p.evicted = r.err == nil && r.again.IsZero()
	case r.err != nil:
		m.stay(p, time.Now().Add(m.options.EvictAfter))
	case !r.again.IsZero():
		m.stay(p, later(r.again, time.Now().Add(minBackOff)))
	}
}

// stay leaves an idle peer on the device, until another try at that time.
func (m *Manager) stay(p *peer, again time.Time) {
	p.evicted = false
	m.setGate(p)
	m.evictAt(p, again)
}

// evictAt sets when an idle peer is to be taken off the device, if ever.
func (m *Manager) evictAt(p *peer, at time.Time) {
	if m.options.EvictAfter == 0 || p.evicted {
		at = time.Time{}
	}
	m.deadlines.set(p, at)
}
