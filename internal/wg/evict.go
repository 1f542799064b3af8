// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/lazybpf/lazybpf/pkg/lazy"
)

var (
	errNoFile   = errors.New("there is no file for evicted peers")
	errGaveBack = errors.New("the peers were given back")
)

// eviction is an Evict of a peer; who asks for the same peer shares it. All but
// ctx and peer is guarded by Connector.evicting.
type eviction struct {
	ctx   context.Context
	peer  *managed
	saved *evicted
	done  bool
	again time.Time
	err   error
}

// Evict takes a closed peer off the device. WireGuard has no way to read one
// peer, and a reading of all is expensive: the peers that wait for an eviction
// at one moment share one. See lazy.EvictingConnector for what is returned.
// Errors: ErrUnknownPeer, ErrNoDevice, ErrPermission, that of ctx, those of
// writing the file; then the peer is on the device.
func (c *Connector) Evict(ctx context.Context, peer lazy.Key) (again time.Time, err error) {
	m := c.stir(peer)
	c.mu.Lock()
	e := c.waiting[peer]
	if e == nil {
		e = &eviction{ctx: ctx, peer: m}
		c.waiting[peer] = e
	}
	c.mu.Unlock()
	c.evicting.Lock()
	defer c.evicting.Unlock()
	if !e.done {
		c.evictWaiting()
	}
	return e.again, e.err
}

// evictWaiting evicts the peers that wait, but for those that have a session
// still and those that nobody waits for any longer.
func (c *Connector) evictWaiting() {
	c.mu.Lock()
	batch := c.waiting
	c.waiting = make(map[lazy.Key]*eviction)
	c.mu.Unlock()

	found, err := c.read(batch)
	now := time.Now()
	var going []*eviction
	for key, e := range batch {
		e.done, e.err = true, err
		e.saved = found[key]
		switch {
		case err != nil:
		case e.ctx.Err() != nil:
			e.err = e.ctx.Err()
		case e.peer.evicted.Load() != nil: // is gone already
		case e.saved == nil:
			e.err = fmt.Errorf("%w: %s is not on %s", ErrUnknownPeer, key, c.device.name)
		case !e.saved.replaceable():
			e.again = now.Add(lazy.MinEvictAfter) // it may be elsewhere by then
		case now.Sub(e.saved.LastHandshake) < lazy.MinEvictAfter:
			e.again = e.saved.LastHandshake.Add(lazy.MinEvictAfter)
			if latest := now.Add(lazy.MinEvictAfter); e.again.After(latest) {
				e.again = latest // somebody has set the clock back
			}
		default:
			going = append(going, e)
		}
	}
	if len(going) > 0 {
		c.evict(going)
	}
}

func (c *Connector) read(batch map[lazy.Key]*eviction) (map[lazy.Key]*evicted, error) {
	switch {
	case c.file == nil:
		return nil, errNoFile
	case c.over:
		return nil, errGaveBack
	}
	return c.device.save(func(key lazy.Key) bool { return batch[key] != nil })
}

// evict notes the peers in the file, and then removes them from the device.
func (c *Connector) evict(going []*eviction) {
	c.several.Lock()
	defer c.several.Unlock()
	saved := make([]*evicted, len(going))
	for i, e := range going {
		e.peer.mu.Lock()
		defer e.peer.mu.Unlock()
		e.saved.Keepalive = e.peer.original
		saved[i] = e.saved
	}
	err := c.file.put(saved...)
	stay := func(lazy.Key) bool { return err != nil }
	if err == nil {
		if err = c.device.remove(saved); err != nil {
			stay = c.left(saved)
		}
	}
	var left []lazy.Key
	for _, e := range going {
		if stay(e.saved.Key) {
			e.err = err
			left = append(left, e.saved.Key)
			continue
		}
		m := e.peer
		m.closed = true
		m.wrote(0, nil)
		m.evicted.Store(e.saved)
	}
	_ = c.file.drop(left...) // Restore leaves them alone; Observe mends that
}

// left says which of the peers are on the device still, after not all could be
// removed. If nobody can tell, none is: opening them puts them back in any case.
func (c *Connector) left(peers []*evicted) func(lazy.Key) bool {
	among := make(map[lazy.Key]bool, len(peers))
	for _, p := range peers {
		among[p.Key] = true
	}
	found, _ := c.device.save(func(key lazy.Key) bool { return among[key] })
	return func(key lazy.Key) bool { return found[key] != nil }
}

// Evicted says whether the peer is not on the device.
func (c *Connector) Evicted(peer lazy.Key) bool {
	m := c.peer(peer)
	return m != nil && m.evicted.Load() != nil
}

// putBack adds an evicted peer to the device, whole. The caller holds m.mu.
func (c *Connector) putBack(m *managed, endpoint netip.AddrPort) error {
	e := *m.evicted.Load()
	e.Keepalive = m.want()
	if endpoint.IsValid() {
		e.Endpoint = endpoint
	}
	err := c.device.add(&e)
	if m.wrote(e.Keepalive, err); err != nil {
		return err
	}
	m.evicted.Store(nil)
	_ = c.file.drop(e.Key) // it works, whatever the file says; Observe mends that
	return nil
}

// Recall puts back all that are evicted, asleep, and returns who that was. An
// Evict that is under way comes first. Errors: ErrNoDevice, ErrPermission, those
// of the file.
func (c *Connector) Recall() ([]lazy.Key, error) {
	if c.file == nil || c.file.Len() == 0 {
		return nil, nil
	}
	c.evicting.Lock()
	defer c.evicting.Unlock()
	return c.putBackAll(false)
}

// putBackAll puts back all that are evicted, with keepalives or without, and
// returns who that was. The caller holds c.evicting.
func (c *Connector) putBackAll(keepalives bool) ([]lazy.Key, error) {
	c.several.Lock()
	defer c.several.Unlock()
	away := make(map[lazy.Key]*managed)
	for key, m := range c.all() {
		if m.evicted.Load() == nil {
			continue
		}
		m.mu.Lock() // else an Open of now would be undone
		defer m.mu.Unlock()
		if m.evicted.Load() != nil {
			away[key] = m
		}
	}
	_, err := c.file.PutBack(c.device, keepalives)
	for _, m := range away {
		keepalive := time.Duration(0)
		if keepalives {
			keepalive = m.original
		}
		// One that was to be put back before may have been there, and was left as it is.
		unsure := m.unsure
		if m.wrote(keepalive, err); err == nil {
			m.unsure = unsure
			m.evicted.Store(nil)
		}
	}
	if err != nil {
		return nil, err
	}
	return slices.Collect(maps.Keys(away)), nil
}

// putBackForGood is putBackAll for the end: there is no Evict after it.
func (c *Connector) putBackForGood() error {
	if c.file == nil {
		return nil
	}
	c.evicting.Lock()
	defer c.evicting.Unlock()
	c.over = true
	_, err := c.putBackAll(true)
	return err
}
