// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"fmt"
	"slices"
	"time"
)

// groups has the members of each group that has any. Groups are small: the
// routers of one network, say.
type groups map[string][]*peer

func (g groups) join(p *peer) {
	for _, name := range p.Groups {
		g[name] = append(g[name], p)
	}
}

func (g groups) leave(p *peer) {
	for _, name := range p.Groups {
		g[name] = slices.DeleteFunc(g[name], func(other *peer) bool { return other == p })
		if len(g[name]) == 0 {
			delete(g, name)
		}
	}
}

// SetGroups replaces the groups of all peers, at once: each group has these
// members, and peers in none of them have no group. A group that has an active
// member now wakes the others. Error: ErrUnknownPeer; then nothing changes.
func (m *Manager) SetGroups(members map[string][]Key) error {
	return m.do(func() error {
		names := make(map[*peer][]string)
		for name, keys := range members {
			for _, key := range keys {
				p := m.peers[key]
				if p == nil {
					return fmt.Errorf("group %q: %w: %s", name, ErrUnknownPeer, key)
				}
				names[p] = append(names[p], name)
			}
		}
		m.groups = make(groups)
		for _, p := range m.peers {
			own := *p.settings
			own.Groups = distinct(names[p])
			p.set(own)
			m.groups.join(p)
		}
		for _, p := range m.peers {
			m.refresh(p)
		}
		for name := range m.groups {
			m.rally(name)
		}
		return nil
	})
}

// rally wakes the members of the groups that have an active one.
func (m *Manager) rally(names ...string) {
	for _, name := range names {
		members := m.groups[name]
		i := slices.IndexFunc(members, func(p *peer) bool { return m.activeUntil(p).After(time.Now()) })
		if i < 0 {
			continue
		}
		wake := Wake{Reason: ReasonGroup, Time: time.Now(), Event: members[i].lastWake().Event}
		for _, p := range members {
			if p.state == Idle {
				m.step(p, mate, wake)
			}
		}
	}
}

// rewatch sets the deadlines of the watched members of the groups: one of
// them no longer keeps the others awake.
func (m *Manager) rewatch(names ...string) {
	for _, name := range names {
		for _, p := range m.groups[name] {
			if p.watched() {
				m.watch(p)
			}
		}
	}
}

// matesUntil is until when other members of the peer's groups are active at
// least; in the past if none is.
func (m *Manager) matesUntil(p *peer) time.Time {
	var until time.Time
	for _, name := range p.Groups {
		for _, other := range m.groups[name] {
			if other != p {
				until = later(until, m.activeUntil(other))
			}
		}
	}
	return until
}

// activeUntil is until when the peer is active at least, for the other members
// of its groups: one that only they have woken is not, unless it has traffic.
func (m *Manager) activeUntil(p *peer) time.Time {
	byGroup := p.lastWake().Reason == ReasonGroup
	switch {
	case p.state == Connecting && !p.lost && !byGroup:
		return time.Now().Add(m.threshold(p)) // it is not silent before
	case p.state == Connected && !byGroup:
		return m.idleAt(p)
	case p.state == Connected:
		return m.activity(p).Last().Add(m.threshold(p))
	}
	return time.Time{}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// distinct returns the names in order, each once.
func distinct(names []string) []string {
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Clip(slices.Compact(names))
}
