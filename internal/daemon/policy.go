// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/lazybpf/lazybpf/internal/config"
	"github.com/lazybpf/lazybpf/internal/endpoint"
	"github.com/lazybpf/lazybpf/internal/wg"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// policy is the options of the moment, those of single peers by key. It is
// replaced, never changed.
type policy struct {
	options Options
	peers   map[lazy.Key]config.Peer
	keys    map[string]lazy.Key // by name
}

func newPolicy(options Options) *policy {
	p := &policy{
		options: options,
		peers:   make(map[lazy.Key]config.Peer),
		keys:    make(map[string]lazy.Key),
	}
	for key, host := range options.WGQuick.Names {
		p.peers[key] = config.Peer{Key: key, Endpoint: host}
	}
	for _, peer := range options.Policy.Peers {
		if peer.Endpoint == "" {
			peer.Endpoint = options.WGQuick.Names[peer.Key]
		}
		p.peers[peer.Key], p.keys[peer.Name] = peer, peer.Key
	}
	return p
}

// managed is what the manager is to know of a peer. One that has to be found
// first is held for by default: WireGuard has no endpoint of it, or an old one.
func (p *policy) managed(peer wg.Peer) lazy.Peer {
	own := p.peers[peer.Key]
	managed := lazy.Peer{
		Key: peer.Key, AllowedIPs: peer.AllowedIPs,
		Threshold: own.Threshold, Wake: own.Wake, Groups: own.Groups, Rules: own.Rules,
	}
	if managed.Wake == lazy.WakeDefault && !p.source(peer.Key).Empty() {
		managed.Wake = lazy.WakeHold
	}
	return managed
}

func (p *policy) source(peer lazy.Key) endpoint.Source {
	own := p.peers[peer]
	return endpoint.Source{Interface: p.options.Interface, Name: own.Name, Endpoint: own.Endpoint, Hook: own.Hook}
}

// excludedNames are the names of peers that never sleep, with whom they mean: if
// nobody, then whom they meant before. A whole public key may be that of a peer to
// come. The error is about the first name that means nobody at all.
func (p *policy) excludedNames(known roster, before map[string]lazy.Key) (map[string]lazy.Key, error) {
	names := make(map[string]lazy.Key)
	var failure error
	for _, name := range p.options.Exclude {
		key, err := lazy.ParseKey(name)
		if err != nil {
			key, err = p.resolve(known, name)
			if meant, ok := before[name]; ok && err != nil {
				key, err = meant, nil
			}
		}
		if err == nil {
			names[name] = key
		} else if failure == nil {
			failure = fmt.Errorf("exclude: %w: wg show %s lists the peers", err, p.options.Interface)
		}
	}
	return names, failure
}

// finder finds peers by the policy of the moment. It is a wg.Finder.
type finder struct {
	*endpoint.Finder
	policy func() *policy
	known  func() roster
}

func (f finder) source(peer lazy.Key) endpoint.Source {
	source := f.policy().source(peer)
	known, _ := f.known().get(peer)
	source.Known = known.Endpoint
	return source
}

func (f finder) Finds(peer lazy.Key) bool { return !f.policy().source(peer).Empty() }

// LookUp is Find for a peer that is open: no hook is run.
func (f finder) LookUp(ctx context.Context, peer lazy.Key) ([]netip.AddrPort, error) {
	return f.Finder.LookUp(ctx, f.source(peer))
}

func (f finder) Starts(peer lazy.Key) bool { return len(f.policy().source(peer).Hook) > 0 }

func (f finder) Find(ctx context.Context, peer lazy.Key, wake lazy.Wake) ([]netip.AddrPort, error) {
	return f.Finder.Find(ctx, f.source(peer), peer, wake)
}
