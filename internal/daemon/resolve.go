// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/lazybpf/lazybpf/pkg/control"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// minKeyPrefix is how much of a public key it takes to name a peer.
const minKeyPrefix = 4

// resolve finds the peer that somebody has named: by its configured name, by
// address, by public key, or by the beginning of one. Errors: control.ErrNoPeer,
// control.ErrAmbiguous.
func (p *policy) resolve(peers roster, name string) (lazy.Key, error) {
	if key, ok := p.keys[name]; ok {
		if !peers.has(key) {
			return lazy.Key{}, fmt.Errorf("%w: %s, %s, is not on the interface", control.ErrNoPeer, name, key)
		}
		return key, nil
	}
	if address, err := netip.ParseAddr(name); err == nil {
		return resolveAddress(peers, address)
	}
	if prefix, err := netip.ParsePrefix(name); err == nil {
		return lazy.Key{}, fmt.Errorf("%w: %s: give one address of it, such as %s", control.ErrNoPeer, name, prefix.Addr())
	}
	if key, err := lazy.ParseKey(name); err == nil {
		if !peers.has(key) {
			return lazy.Key{}, fmt.Errorf("%w: %s", control.ErrNoPeer, name)
		}
		return key, nil
	}
	if len(name) < minKeyPrefix {
		return lazy.Key{}, fmt.Errorf("%w: %q: give at least %d characters of its public key",
			control.ErrNoPeer, name, minKeyPrefix)
	}
	var matches []lazy.Key
	for _, p := range peers {
		if strings.HasPrefix(p.Key.String(), name) {
			matches = append(matches, p.Key)
		}
	}
	switch len(matches) {
	case 0:
		return lazy.Key{}, fmt.Errorf("%w: %s", control.ErrNoPeer, name)
	case 1:
		return matches[0], nil
	}
	return lazy.Key{}, fmt.Errorf("%w: %d public keys begin with %s: give more of it",
		control.ErrAmbiguous, len(matches), name)
}

// resolveAddress finds the peer that WireGuard would send to.
func resolveAddress(peers roster, address netip.Addr) (lazy.Key, error) {
	best, found := -1, lazy.Key{}
	for _, p := range peers {
		for _, prefix := range p.AllowedIPs {
			if prefix.Contains(address) && prefix.Bits() > best {
				best, found = prefix.Bits(), p.Key
			}
		}
	}
	if best < 0 {
		return found, fmt.Errorf("%w: %s is in nobody's allowed IPs", control.ErrNoPeer, address)
	}
	return found, nil
}
