// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

// holds says whether the peer's packets wait for the connector.
func (m *Manager) holds(p *peer) bool {
	if p.Wake == WakeDefault {
		return m.options.Wake == WakeHold
	}
	return p.Wake == WakeHold
}

// arm makes the next packet of the peer wake it.
func (m *Manager) arm(p *peer, now time.Time) {
	p.idleSince, p.backingOff = now, false
	m.evictAt(p, now.Add(m.options.EvictAfter))
	m.setGate(p)
}

// setGate arms a dormant peer as it has to be now. The dormancy is the same:
// an event on its way still counts.
func (m *Manager) setGate(p *peer) {
	p.holding = m.holds(p) || p.evicted
	// Only a detector that is closed, or does not know the peer, refuses.
	_ = m.detector.Arm(p.id, p.holding)
}

// park puts a peer to sleep, unless it turns out that it is talked to: a
// packet between the decision and the arming has raised no event.
func (m *Manager) park(p *peer, from State) {
	now := time.Now()
	before := m.activity(p)
	// The event of a packet that has come since it went idle may be on its way.
	woken := from == Idle && m.stirring(p)
	m.arm(p, now)
	if woken || !p.lost && talked(before, m.activity(p), now) {
		_ = m.detector.Open(p.id)
		p.state = Connected
		if from == Connected {
			m.watch(p)
		} else { // its Open, long given up, has succeeded just now
			m.settle(p, now)
		}
		return
	}
	p.lost = false
	m.want(p, callClose)
}

// stirring says whether an idle peer has been talked to since it went idle.
func (m *Manager) stirring(p *peer) bool { return m.activity(p).Last().After(p.idleSince) }

// maxTick is a tick of the kernel's clock, at worst (CONFIG_HZ=100). Times of
// activity are up to two ticks early.
const maxTick = 10 * time.Millisecond

// talked says whether a packet that keeps the peer awake has passed between
// two looks. Times tell it, unless they may be of the same tick: then
// any packet counts.
func talked(before, after detect.Activity, now time.Time) bool {
	if now.Sub(before.Last()) > 3*maxTick {
		return after.Last() != before.Last() || after.Held != before.Held
	}
	return after.Packets() != before.Packets()
}
