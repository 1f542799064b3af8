// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"errors"
	"maps"
	"net/netip"
	"time"

	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// This file changes many peers in one message.

// keepaliveDelay is how long after a packet has woken a peer its keepalive is
// set. Until then the packet and its handshake have the machine to themselves,
// and those that wake in the meantime share a message. WireGuard knows no
// keepalive shorter than a second.
const keepaliveDelay = 100 * time.Millisecond

// setLater has the keepalive of an open peer set after keepaliveDelay. If that
// fails, Observe tells.
func (c *Connector) setLater(m *managed, peer lazy.Key, _ netip.AddrPort) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.later) == 0 {
		time.AfterFunc(keepaliveDelay, c.setWaiting)
	}
	c.later[peer] = m
	return nil
}

// setWaiting sets the keepalives that wait to be set.
func (c *Connector) setWaiting() {
	c.mu.Lock()
	waiting := c.later
	c.later = make(map[lazy.Key]*managed)
	maps.DeleteFunc(waiting, func(key lazy.Key, m *managed) bool { return c.peers[key] != m })
	c.mu.Unlock()
	_ = c.changeAll(waiting, func(*managed) {})
}

// CloseAll is Close for many peers, in as few messages as can be.
func (c *Connector) CloseAll(peers []lazy.Key) error {
	chosen := make(map[lazy.Key]*managed, len(peers))
	for _, key := range peers {
		if m := c.peer(key); m != nil {
			chosen[key] = m
		}
	}
	return c.changeAll(chosen, func(m *managed) { m.closed = true })
}

// GiveBack puts back all peers that are evicted, and gives all the keepalives
// that they have without lazybpf. From then on nobody is evicted.
func (c *Connector) GiveBack() error {
	return errors.Join(c.putBackForGood(), c.changeAll(c.all(), func(m *managed) {
		m.closed, m.open = false, m.original
	}))
}

// Owed is how many peers GiveBack has not given back.
func (c *Connector) Owed() (n int) {
	for _, m := range c.all() {
		m.mu.Lock()
		if !m.settled() || m.evicted.Load() != nil {
			n++
		}
		m.mu.Unlock()
	}
	return n
}

// changeAll makes the device follow a change of what it should have for these
// peers, but for those that are not on it.
func (c *Connector) changeAll(peers map[lazy.Key]*managed, decide func(*managed)) error {
	c.several.Lock()
	defer c.several.Unlock()
	var changes []Change
	var changing []*managed
	for key, m := range peers {
		m.mu.Lock()
		decide(m)
		if m.settled() || m.evicted.Load() != nil {
			m.mu.Unlock()
			continue
		}
		changes = append(changes, Change{Key: key, Keepalive: m.want()})
		changing = append(changing, m)
	}
	err := c.device.Configure(changes...)
	for i, m := range changing {
		m.wrote(changes[i].Keepalive, err)
		m.mu.Unlock()
	}
	return err
}
