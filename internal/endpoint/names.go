// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// lookupTimeout is how long to wait for a name server, where an address is known
// already.
const lookupTimeout = 3 * time.Second

// names looks up host names, and remembers what it has found.
type names struct {
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)

	mu   sync.Mutex // guards last
	last map[string][]netip.AddrPort
}

func newNames() *names {
	return &names{
		lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		},
		last: make(map[string][]netip.AddrPort),
	}
}

// resolve returns the addresses of host:port in the order in which RFC 6724
// has them tried. Where looking up fails, they are those of the last time, or
// none if an address is known.
func (n *names) resolve(ctx context.Context, endpoint string, known netip.AddrPort) ([]netip.AddrPort, error) {
	if address, err := netip.ParseAddrPort(endpoint); err == nil && address.Port() != 0 {
		return []netip.AddrPort{address}, nil
	}
	host, service, err := net.SplitHostPort(endpoint)
	if err != nil || host == "" {
		return nil, fmt.Errorf("endpoint %q is not host:port", endpoint)
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "udp", service)
	if err != nil || port == 0 {
		return nil, fmt.Errorf("endpoint %q has no port from 1 to 65535", endpoint)
	}
	n.mu.Lock()
	last := n.last[endpoint]
	n.mu.Unlock()
	if last != nil || known.IsValid() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, lookupTimeout)
		defer cancel()
	}
	addresses, err := n.lookup(ctx, host)
	switch {
	case err != nil && (last != nil || known.IsValid()):
		return last, nil
	case err != nil:
		return nil, fmt.Errorf("look up endpoint: %w", err)
	}
	found := make([]netip.AddrPort, len(addresses))
	for i, address := range addresses {
		found[i] = netip.AddrPortFrom(address.Unmap(), uint16(port))
	}
	n.mu.Lock()
	n.last[endpoint] = found
	n.mu.Unlock()
	return found, nil
}
