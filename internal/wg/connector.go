// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// Resolve finds the endpoint of a peer that is about to be opened. The zero
// endpoint leaves the one that WireGuard has.
type Resolve func(ctx context.Context, peer lazy.Key) (netip.AddrPort, error)

// Connector opens and closes the peers of a device in quiet mode: a closed
// peer has no keepalive, but all else it had, so that WireGuard by itself goes
// on with it if lazybpf does not. It is a lazy.ReadyConnector, and its methods may
// be called from any goroutine.
//
// A peer's keepalive is that of the device when the peer is adopted, and what
// others set it to later.
type Connector struct {
	device  *Device
	resolve Resolve

	mu    sync.Mutex // guards peers, not what is in them
	peers map[lazy.Key]*keepalive
}

// keepalive is what the connector knows of a peer's keepalive.
type keepalive struct {
	// Held while the device is changed, so that what the device has in the
	// end is what was asked for last. It delays only others who change the
	// same peer.
	mu sync.Mutex

	open    time.Duration // while the peer is open; 0: off
	closed  bool
	now     time.Duration // on the device, as last set or seen
	changed time.Time     // when it was set
}

// want is what the device should have.
func (k *keepalive) want() time.Duration {
	if k.closed {
		return 0
	}
	return k.open
}

// NewConnector makes a connector that knows no peers. Without resolve,
// endpoints stay as WireGuard has them.
func NewConnector(device *Device, resolve Resolve) *Connector {
	return &Connector{device: device, resolve: resolve, peers: make(map[lazy.Key]*keepalive)}
}

// Adopt makes the connector know an open peer as the device has it, and the
// keepalive that it has while open.
func (c *Connector) Adopt(peer Peer, open time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.peers[peer.Key] = &keepalive{open: open, now: peer.Keepalive}
}

// Forget undoes Adopt.
func (c *Connector) Forget(peer lazy.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.peers, peer)
}

func (c *Connector) peer(key lazy.Key) (*keepalive, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.peers[key]
	if k == nil {
		return nil, fmt.Errorf("%w: %s", ErrUnknownPeer, key)
	}
	return k, nil
}

// all returns the peers in a list of its own.
func (c *Connector) all() map[lazy.Key]*keepalive {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.peers)
}

// Ready says whether WireGuard has all it takes to reach the peer: its endpoint
// is not to be resolved. Then no packet waits for the keepalive to be set.
func (c *Connector) Ready(_ lazy.Key, wake lazy.Wake) bool { return !c.resolves(wake) }

// resolves says whether a wake has the peer's endpoint resolved. A packet from
// the peer has just taught it to WireGuard.
func (c *Connector) resolves(wake lazy.Wake) bool {
	return c.resolve != nil && wake.Reason != lazy.ReasonIngress
}

// Open sets the peer's keepalive, and its endpoint if it is to be resolved, in
// one message. A peer that a packet from it has woken keeps its endpoint:
// WireGuard has just learned where it is. Errors: ErrUnknownPeer, ErrNoDevice,
// ErrPermission, those of resolve.
func (c *Connector) Open(ctx context.Context, peer lazy.Key, wake lazy.Wake) error {
	var endpoint netip.AddrPort
	if c.resolves(wake) {
		var err error
		if endpoint, err = c.resolve(ctx, peer); err != nil {
			return fmt.Errorf("find endpoint: %w", err)
		}
	}
	return c.change(peer, endpoint, func(k *keepalive) { k.closed = false })
}

// Close turns the peer's keepalive off. Errors: ErrUnknownPeer, ErrNoDevice,
// ErrPermission.
func (c *Connector) Close(_ context.Context, peer lazy.Key) error {
	return c.change(peer, netip.AddrPort{}, func(k *keepalive) { k.closed = true })
}

// Settle makes the device have what it should for the peer, after others have
// changed it. Errors: ErrUnknownPeer, ErrNoDevice, ErrPermission.
func (c *Connector) Settle(peer lazy.Key) error {
	return c.change(peer, netip.AddrPort{}, func(*keepalive) {})
}

// change makes the device follow a change of what it should have.
func (c *Connector) change(peer lazy.Key, endpoint netip.AddrPort, decide func(*keepalive)) error {
	k, err := c.peer(peer)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	decide(k)
	if k.now == k.want() && !endpoint.IsValid() {
		return nil
	}
	err = c.device.Configure(Change{Key: peer, Endpoint: endpoint, Keepalive: k.want()})
	k.changed = time.Now()
	if err == nil {
		k.now = k.want()
	}
	return err
}

// Observe takes notice of keepalives that others have set: peers is what the
// device had, read not before since. It returns the peers whose keepalive is
// not what was known.
func (c *Connector) Observe(since time.Time, peers []Peer) []lazy.Key {
	var drifted []lazy.Key
	for _, p := range peers {
		if k, err := c.peer(p.Key); err == nil && k.observe(since, p.Keepalive) {
			drifted = append(drifted, p.Key)
		}
	}
	return drifted
}

// observe says whether somebody else has set the keepalive to seen.
func (k *keepalive) observe(since time.Time, seen time.Duration) bool {
	if !k.mu.TryLock() {
		return false // it is being changed: look again next time
	}
	defer k.mu.Unlock()
	if seen == k.now || !k.changed.Before(since) {
		return false
	}
	k.open, k.now = seen, seen
	return true
}

// CloseAll is Close for many peers that nobody opens meanwhile, in as few
// messages as can be.
func (c *Connector) CloseAll(peers []lazy.Key) error {
	chosen := make(map[lazy.Key]*keepalive, len(peers))
	for _, key := range peers {
		if k, err := c.peer(key); err == nil {
			chosen[key] = k
		}
	}
	return c.changeAll(chosen, true)
}

// GiveBack gives all peers the keepalives that they have while open.
func (c *Connector) GiveBack() error { return c.changeAll(c.all(), false) }

func (c *Connector) changeAll(peers map[lazy.Key]*keepalive, closed bool) error {
	var changes []Change
	var changing []*keepalive
	for key, k := range peers {
		k.mu.Lock()
		k.closed = closed
		if k.now != k.want() {
			changes = append(changes, Change{Key: key, Keepalive: k.want()})
			changing = append(changing, k)
		}
		k.mu.Unlock()
	}
	err := c.device.Configure(changes...)
	for i, k := range changing {
		k.mu.Lock()
		k.changed = time.Now()
		if err == nil {
			k.now = changes[i].Keepalive
		}
		k.mu.Unlock()
	}
	return err
}

// Originals are the keepalives that peers have while open, of those that have
// one: what the device would have without lazybpf.
func (c *Connector) Originals() map[lazy.Key]time.Duration {
	originals := make(map[lazy.Key]time.Duration)
	for key, k := range c.all() {
		k.mu.Lock()
		if k.open != 0 {
			originals[key] = k.open
		}
		k.mu.Unlock()
	}
	return originals
}
