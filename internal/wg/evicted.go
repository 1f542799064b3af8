// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"net"
	"net/netip"
	"slices"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// evicted is all that it takes to put a peer back. It does not change.
type evicted struct {
	Peer         // with the keepalive that it has without lazybpf
	presharedKey presharedKey
}

// save reads the chosen ones of the device's peers.
func (d *Device) save(chosen func(lazy.Key) bool) (map[lazy.Key]*evicted, error) {
	all, err := d.readPeers()
	saved := make(map[lazy.Key]*evicted)
	for i := range all {
		if p := &all[i]; chosen(lazy.Key(p.PublicKey)) {
			saved[lazy.Key(p.PublicKey)] = &evicted{peerOf(p), newPresharedKey(p.PresharedKey)}
		}
	}
	return saved, err
}

// remove takes peers off the device.
func (d *Device) remove(peers []*evicted) error {
	configs := make([]wgtypes.PeerConfig, len(peers))
	for i, p := range peers {
		configs[i] = wgtypes.PeerConfig{PublicKey: wgtypes.Key(p.Key), Remove: true, UpdateOnly: true}
	}
	d.reading.Lock()
	defer d.reading.Unlock()
	return d.configure(configs)
}

// add puts peers on the device, each whole in one message. What it has of them
// already gives way.
func (d *Device) add(peers ...*evicted) error {
	configs := make([]wgtypes.PeerConfig, len(peers))
	for i, p := range peers {
		configs[i] = p.config()
	}
	return d.configure(configs)
}

// config is the peer whole.
func (e *evicted) config() wgtypes.PeerConfig {
	config := wgtypes.PeerConfig{
		PublicKey:                   wgtypes.Key(e.Key),
		PresharedKey:                e.presharedKey.reveal(),
		PersistentKeepaliveInterval: &e.Keepalive,
		ReplaceAllowedIPs:           true,
	}
	if e.Endpoint.IsValid() {
		config.Endpoint = net.UDPAddrFromAddrPort(e.Endpoint)
	}
	for _, prefix := range e.AllowedIPs {
		config.AllowedIPs = append(config.AllowedIPs, net.IPNet{
			IP:   prefix.Addr().AsSlice(),
			Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen()),
		})
	}
	return config
}

// replaceable says whether a peer that is removed can be put back as it was:
// not one at a link-local address, of which wgctrl has no interface.
func (e *evicted) replaceable() bool {
	at := e.Endpoint.Addr()
	return !at.Is6() || !at.IsLinkLocalUnicast() || at.Zone() != ""
}

// holdings is what a device has: peers, and their allowed IPs.
type holdings struct {
	peers      map[lazy.Key]bool
	allowedIPs map[netip.Prefix]bool
}

func newHoldings(peers []Peer) holdings {
	h := holdings{make(map[lazy.Key]bool), make(map[netip.Prefix]bool)}
	for _, p := range peers {
		h.peers[p.Key] = true
		for _, prefix := range p.AllowedIPs {
			h.allowedIPs[prefix] = true
		}
	}
	return h
}

// without is the peer without the allowed IPs that a device has, which does
// not have the peer: they are those of others.
func (e *evicted) without(h holdings) *evicted {
	taken := func(p netip.Prefix) bool { return h.allowedIPs[p] }
	if !slices.ContainsFunc(e.AllowedIPs, taken) {
		return e
	}
	rest := *e
	rest.AllowedIPs = slices.DeleteFunc(slices.Clone(e.AllowedIPs), taken)
	return &rest
}
