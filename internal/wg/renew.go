// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"errors"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// forgetSession has WireGuard forget the session that a peer had before a time,
// since when its machine has been started and knows of none. WireGuard would send
// into the void for 15 s otherwise, and then shake hands. There is no other way than
// to remove the peer and put it back, in one message. A session that is over, or
// younger, is left alone, and so is a peer that is not on the device.
func (c *Connector) forgetSession(peer lazy.Key, before time.Time) error {
	m := c.stir(peer)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.evicted.Load() != nil {
		return nil
	}
	found, err := c.device.save(func(key lazy.Key) bool { return key == peer })
	p := found[peer]
	if err != nil || p == nil || !p.replaceable() {
		return err
	}
	if p.LastHandshake.After(before) || time.Since(p.LastHandshake) >= lazy.MinEvictAfter {
		return nil
	}
	if err = c.device.renew(p); err != nil {
		err = errors.Join(err, c.device.add(p)) // it may have been removed
	}
	m.changed = time.Now()
	return err
}

// renew removes a peer and puts it back.
func (d *Device) renew(p *evicted) error {
	d.reading.Lock()
	defer d.reading.Unlock()
	remove := wgtypes.PeerConfig{PublicKey: wgtypes.Key(p.Key), Remove: true, UpdateOnly: true}
	return d.configure([]wgtypes.PeerConfig{remove, p.config()})
}
