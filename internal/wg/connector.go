// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// Finder finds out where peers are that are about to be opened. Its methods may
// be called from any goroutine.
type Finder interface {
	// Finds says whether there is something to find out: then packets wait for it.
	Finds(peer lazy.Key) bool
	// Starts says whether Find may start the peer's machine, which then knows of
	// no session with us.
	Starts(peer lazy.Key) bool
	// Find returns where the peer may be, most likely first. None leaves the
	// endpoint that WireGuard has.
	Find(ctx context.Context, peer lazy.Key, wake lazy.Wake) ([]netip.AddrPort, error)
}

// Connector opens, closes and evicts the peers of a device. A closed peer has
// no keepalive, but all else it had, so that WireGuard by itself goes on with
// it if lazybpf does not. An evicted peer is not on the device; what it takes
// to put it back is in memory and in a file. Connector is a lazy.ReadyConnector
// and a lazy.EvictingConnector, and its methods may be called from any
// goroutine.
//
// A peer's keepalive is that of the device when the peer is adopted, and what
// others set it to later. Most peers sleep and have none: of those there is
// nothing to remember, and the connector takes whom it was not told of for one of
// them.
type Connector struct {
	device *Device
	finder Finder       // nil: endpoints stay as WireGuard has them
	file   *EvictedFile // nil: nobody is evicted

	mu      sync.Mutex // guards what follows, not what is in the peers
	peers   map[lazy.Key]*managed
	waiting map[lazy.Key]*eviction
	later   map[lazy.Key]*managed // whose keepalives are set in a moment

	// Held by who locks several peers, so that no two wait for each other.
	several sync.Mutex

	// Held by the Evict that does the work for all that wait.
	evicting sync.Mutex
	over     bool // all was given back
}

// managed is what the connector knows of a peer that is open, has a keepalive, or
// was so once.
type managed struct {
	// Held while the device is changed, so that what the device has in the
	// end is what was asked for last. It delays only others who change the
	// same peer.
	mu sync.Mutex

	original time.Duration // its keepalive without lazybpf; 0: off
	open     time.Duration // and while it is open
	closed   bool
	now      time.Duration // its keepalive on the device, as last set or seen
	unsure   bool          // it may be what was last asked for instead
	changed  time.Time     // when it was set, or the peer removed or put back

	untried []netip.AddrPort // where else it may be, the next one first

	evicted atomic.Pointer[evicted] // nil: on the device; read without mu, too
}

// want is the keepalive that the device should have.
func (m *managed) want() time.Duration {
	if m.closed {
		return 0
	}
	return m.open
}

// settled says whether the device has what it should.
func (m *managed) settled() bool { return m.now == m.want() && !m.unsure }

// wrote takes notice of what came of giving the device a keepalive. A failure
// may have done so, or may do so yet: see ErrNoAnswer.
func (m *managed) wrote(keepalive time.Duration, err error) {
	m.changed, m.unsure = time.Now(), err != nil
	if err == nil {
		m.now = keepalive
	}
}

// NewConnector makes a connector that knows no peers. Without a finder,
// endpoints stay as WireGuard has them.
func NewConnector(device *Device, finder Finder) *Connector {
	return &Connector{
		device: device, finder: finder,
		peers: make(map[lazy.Key]*managed), waiting: make(map[lazy.Key]*eviction),
		later: make(map[lazy.Key]*managed),
	}
}

// EvictTo sets the file for Evict, which fails without. It is for the time
// before the connector is used.
func (c *Connector) EvictTo(file *EvictedFile) {
	c.file = file
	file.of = c.device.ID()
}

// Adopt makes the connector know a peer as the device has it, the keepalive that
// it has without lazybpf, and whether it is open. A keepalive that should be off
// stays until CloseAll or Settle.
func (c *Connector) Adopt(peer Peer, original time.Duration, open bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.peers, peer.Key)
	if open || original != 0 || peer.Keepalive != 0 {
		c.peers[peer.Key] = &managed{original: original, open: original, closed: !open, now: peer.Keepalive}
	}
}

// Forget makes the connector know a peer no longer, which it leaves as it is.
func (c *Connector) Forget(peer lazy.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.peers, peer)
}

// Release gives a peer the keepalive back that it has without lazybpf, and
// forgets it. Errors: ErrNoDevice, ErrPermission.
func (c *Connector) Release(peer lazy.Key) error {
	err := c.change(peer, func(m *managed) { m.closed, m.open = false, m.original })
	c.Forget(peer)
	return err
}

// peer returns what there is to know of a peer, or nil.
func (c *Connector) peer(key lazy.Key) *managed {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peers[key]
}

// stir returns what there is to know of a peer, which there is from now on.
func (c *Connector) stir(key lazy.Key) *managed {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.peers[key] == nil {
		c.peers[key] = &managed{closed: true}
	}
	return c.peers[key]
}

// all returns the peers in a list of its own.
func (c *Connector) all() map[lazy.Key]*managed {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.peers)
}

// Ready says whether WireGuard has all it takes to reach the peer: it is on the
// device, and nobody has to find out where it is. Then no packet waits for the
// keepalive to be set.
func (c *Connector) Ready(peer lazy.Key, wake lazy.Wake) bool {
	return !c.finds(peer, wake) && !c.Evicted(peer)
}

// finds says whether a wake has the peer looked for. A packet from the peer has
// just taught WireGuard where it is.
func (c *Connector) finds(peer lazy.Key, wake lazy.Wake) bool {
	return c.finder != nil && wake.Reason != lazy.ReasonIngress && c.finder.Finds(peer)
}

// Open sets the peer's keepalive, and its endpoint if it is to be found, in one
// message. A peer that a packet from it has woken keeps its endpoint, and so does
// one that comes while it is being looked for: WireGuard has just learned where it
// is. One whose machine may have been started loses its old session. An evicted
// peer is put back whole, where it was or was found. Where nothing but the
// keepalive is to be set, and a packet shakes hands already, that is done
// keepaliveDelay later. Errors: ErrNoDevice, ErrPermission, those of the finder.
func (c *Connector) Open(ctx context.Context, peer lazy.Key, wake lazy.Wake) error {
	var found []netip.AddrPort
	if c.finds(peer, wake) {
		var err error
		if found, err = c.finder.Find(ctx, peer, wake); err != nil {
			return fmt.Errorf("find endpoint: %w", err)
		}
		switch answered := lazy.Answered(ctx); {
		case answered:
			found = nil
		case c.finder.Starts(peer):
			if err := c.forgetSession(peer, wake.Time); err != nil {
				return err
			}
		}
	}
	var before bool
	opened := func(m *managed) {
		before, m.closed = m.closed, false
		m.untried = nil
		if len(found) > 1 {
			m.untried = append(slices.Clone(found[1:]), found[0])
		}
	}
	var endpoint netip.AddrPort
	write := c.set
	switch byPacket := wake.Reason == lazy.ReasonEgress || wake.Reason == lazy.ReasonIngress; {
	case len(found) > 0:
		endpoint = found[0]
	case byPacket:
		write = c.setLater
	}
	m := c.stir(peer)
	err := c.changeTo(m, peer, endpoint, write, opened)
	if err != nil { // it is no more open than before, and what is done late is undone
		m.mu.Lock()
		defer m.mu.Unlock()
		m.closed = before
	}
	return err
}

// TryNext sets the next of the endpoints that were found for a peer which does
// not answer at the last one. Errors: ErrNoDevice, ErrPermission.
func (c *Connector) TryNext(peer lazy.Key) error {
	m := c.peer(peer)
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || len(m.untried) == 0 {
		return nil
	}
	endpoint := m.untried[0]
	m.untried = append(m.untried[1:], endpoint)
	return c.set(m, peer, endpoint)
}

// Move sets where an open peer was found that does not answer where the device
// has it, and says whether that is elsewhere. Errors: ErrNoDevice, ErrPermission.
func (c *Connector) Move(peer lazy.Key, from netip.AddrPort, found []netip.AddrPort) (bool, error) {
	m := c.peer(peer)
	if m == nil {
		return false, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	next := slices.Index(found, from) + 1
	places := slices.Concat(found[next:], found[:next])
	if m.closed || len(places) == 0 || places[0] == from {
		return false, nil
	}
	m.untried = append(places[1:], places[0])
	if len(places) == 1 {
		m.untried = nil
	}
	return true, c.set(m, peer, places[0])
}

// SetKeepalive changes the keepalive that the peer has while it is open; nil is
// that of the device without lazybpf. The device has it after Settle: the journal
// comes first.
func (c *Connector) SetKeepalive(peer lazy.Key, keepalive *time.Duration) {
	if keepalive == nil && c.peer(peer) == nil {
		return
	}
	m := c.stir(peer)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open = m.original
	if keepalive != nil {
		m.open = *keepalive
	}
}

// Close turns the peer's keepalive off. Errors: ErrNoDevice, ErrPermission.
func (c *Connector) Close(_ context.Context, peer lazy.Key) error {
	return c.change(peer, func(m *managed) { m.closed = true })
}

// Settle makes the device have what it should for the peer, after others have
// changed it, or SetKeepalive. Errors: ErrNoDevice, ErrPermission.
func (c *Connector) Settle(peer lazy.Key) error {
	return c.change(peer, func(*managed) {})
}

// change makes the device follow a change of what it should have. A peer of which
// nothing is known has no keepalive, and should have none.
func (c *Connector) change(peer lazy.Key, decide func(*managed)) error {
	m := c.peer(peer)
	if m == nil {
		return nil
	}
	return c.changeTo(m, peer, netip.AddrPort{}, c.set, decide)
}

// changeTo is change that also sets an endpoint, if that is valid. On a device
// that has the peer, and has not all it should, write does it.
func (c *Connector) changeTo(m *managed, peer lazy.Key, endpoint netip.AddrPort,
	write func(*managed, lazy.Key, netip.AddrPort) error, decide func(*managed),
) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	decide(m)
	if m.evicted.Load() != nil {
		if m.closed {
			return nil
		}
		return c.putBack(m, endpoint)
	}
	if m.settled() && !endpoint.IsValid() {
		return nil
	}
	return write(m, peer, endpoint)
}

// set writes to the device. The caller holds m.mu.
func (c *Connector) set(m *managed, peer lazy.Key, endpoint netip.AddrPort) error {
	err := c.device.Configure(Change{Key: peer, Endpoint: endpoint, Keepalive: m.want()})
	m.wrote(m.want(), err)
	return err
}

// Record is what the journal has to say of the peers.
func (c *Connector) Record() Record {
	r := Record{Interface: c.device.ID(), Peers: make(map[lazy.Key]Keepalive)}
	for key, m := range c.all() {
		m.mu.Lock()
		k := Keepalive{Original: m.original, Open: m.open}
		m.mu.Unlock()
		if k != (Keepalive{}) {
			r.Peers[key] = k
		}
	}
	return r
}
