// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// Resolve finds the endpoint of a peer that is about to be opened. The zero
// endpoint leaves the one that WireGuard has.
type Resolve func(ctx context.Context, peer lazy.Key) (netip.AddrPort, error)

// Connector opens, closes and evicts the peers of a device. A closed peer has
// no keepalive, but all else it had, so that WireGuard by itself goes on with
// it if lazybpf does not. An evicted peer is not on the device; what it takes
// to put it back is in memory and in a file. Connector is a lazy.ReadyConnector
// and a lazy.EvictingConnector, and its methods may be called from any
// goroutine.
//
// A peer's keepalive is that of the device when the peer is adopted, and what
// others set it to later.
type Connector struct {
	device  *Device
	resolve Resolve
	file    *EvictedFile // nil: nobody is evicted

	mu      sync.Mutex // guards what follows, not what is in the peers
	peers   map[lazy.Key]*managed
	waiting map[lazy.Key]*eviction

	// Held by the Evict that does the work for all that wait.
	evicting sync.Mutex
	over     bool // all was given back
}

// managed is what the connector knows of a peer.
type managed struct {
	// Held while the device is changed, so that what the device has in the
	// end is what was asked for last. It delays only others who change the
	// same peer.
	mu sync.Mutex

	open    time.Duration // its keepalive while it is open; 0: off
	closed  bool
	now     time.Duration // its keepalive on the device, as last set or seen
	changed time.Time     // when it was set, or the peer removed or put back

	evicted atomic.Pointer[evicted] // nil: on the device; read without mu, too
}

// want is the keepalive that the device should have.
func (m *managed) want() time.Duration {
	if m.closed {
		return 0
	}
	return m.open
}

// NewConnector makes a connector that knows no peers. Without resolve,
// endpoints stay as WireGuard has them.
func NewConnector(device *Device, resolve Resolve) *Connector {
	return &Connector{
		device: device, resolve: resolve,
		peers: make(map[lazy.Key]*managed), waiting: make(map[lazy.Key]*eviction),
	}
}

// EvictTo sets the file for Evict, which fails without. It is for the time
// before the connector is used.
func (c *Connector) EvictTo(file *EvictedFile) { c.file = file }

// Adopt makes the connector know an open peer as the device has it, and the
// keepalive that it has while open.
func (c *Connector) Adopt(peer Peer, open time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.peers[peer.Key] = &managed{open: open, now: peer.Keepalive}
}

// Forget undoes Adopt.
func (c *Connector) Forget(peer lazy.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.peers, peer)
}

func (c *Connector) peer(key lazy.Key) (*managed, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.peers[key]
	if m == nil {
		return nil, fmt.Errorf("%w: %s", ErrUnknownPeer, key)
	}
	return m, nil
}

// all returns the peers in a list of its own.
func (c *Connector) all() map[lazy.Key]*managed {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.peers)
}

// Ready says whether WireGuard has all it takes to reach the peer: it is on the
// device, and its endpoint is not to be resolved. Then no packet waits for the
// keepalive to be set.
func (c *Connector) Ready(peer lazy.Key, wake lazy.Wake) bool {
	return !c.resolves(wake) && !c.Evicted(peer)
}

// resolves says whether a wake has the peer's endpoint resolved. A packet from
// the peer has just taught it to WireGuard.
func (c *Connector) resolves(wake lazy.Wake) bool {
	return c.resolve != nil && wake.Reason != lazy.ReasonIngress
}

// Open sets the peer's keepalive, and its endpoint if it is to be resolved, in
// one message. A peer that a packet from it has woken keeps its endpoint:
// WireGuard has just learned where it is. An evicted peer is put back whole,
// where it was or at the endpoint that was resolved. Errors: ErrUnknownPeer, ErrNoDevice,
// ErrPermission, those of resolve.
func (c *Connector) Open(ctx context.Context, peer lazy.Key, wake lazy.Wake) error {
	var endpoint netip.AddrPort
	if c.resolves(wake) {
		var err error
		if endpoint, err = c.resolve(ctx, peer); err != nil {
			return fmt.Errorf("find endpoint: %w", err)
		}
	}
	return c.change(peer, endpoint, func(m *managed) { m.closed = false })
}

// Close turns the peer's keepalive off. Errors: ErrUnknownPeer, ErrNoDevice,
// ErrPermission.
func (c *Connector) Close(_ context.Context, peer lazy.Key) error {
	return c.change(peer, netip.AddrPort{}, func(m *managed) { m.closed = true })
}

// Settle makes the device have what it should for the peer, after others have
// changed it. Errors: ErrUnknownPeer, ErrNoDevice, ErrPermission.
func (c *Connector) Settle(peer lazy.Key) error {
	return c.change(peer, netip.AddrPort{}, func(*managed) {})
}

// change makes the device follow a change of what it should have.
func (c *Connector) change(peer lazy.Key, endpoint netip.AddrPort, decide func(*managed)) error {
	m, err := c.peer(peer)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	decide(m)
	if m.evicted.Load() != nil {
		if m.closed {
			return nil
		}
		return c.putBack(m, endpoint)
	}
	if m.now == m.want() && !endpoint.IsValid() {
		return nil
	}
	err = c.device.Configure(Change{Key: peer, Endpoint: endpoint, Keepalive: m.want()})
	m.changed = time.Now()
	if err == nil {
		m.now = m.want()
	}
	return err
}

// CloseAll is Close for many peers that nobody opens meanwhile, in as few
// messages as can be.
func (c *Connector) CloseAll(peers []lazy.Key) error {
	chosen := make(map[lazy.Key]*managed, len(peers))
	for _, key := range peers {
		if m, err := c.peer(key); err == nil {
			chosen[key] = m
		}
	}
	return c.changeAll(chosen, true)
}

// GiveBack puts back all peers that are evicted, and gives all the keepalives
// that they have while open. From then on nobody is evicted.
func (c *Connector) GiveBack() error {
	return errors.Join(c.putBackAll(), c.changeAll(c.all(), false))
}

func (c *Connector) changeAll(peers map[lazy.Key]*managed, closed bool) error {
	var changes []Change
	var changing []*managed
	for key, m := range peers {
		m.mu.Lock()
		m.closed = closed
		if m.now != m.want() {
			changes = append(changes, Change{Key: key, Keepalive: m.want()})
			changing = append(changing, m)
		}
		m.mu.Unlock()
	}
	err := c.device.Configure(changes...)
	for i, m := range changing {
		m.mu.Lock()
		m.changed = time.Now()
		if err == nil {
			m.now = changes[i].Keepalive
		}
		m.mu.Unlock()
	}
	return err
}

// Originals are the keepalives that peers have while open, of those that have
// one: what the device would have without lazybpf.
func (c *Connector) Originals() map[lazy.Key]time.Duration {
	originals := make(map[lazy.Key]time.Duration)
	for key, m := range c.all() {
		m.mu.Lock()
		if m.open != 0 {
			originals[key] = m.open
		}
		m.mu.Unlock()
	}
	return originals
}
