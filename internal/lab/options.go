// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"net/netip"
	"time"
)

// Options are what can be different about a [Network]. The zero value is a good one.
type Options struct {
	// ExtraAllowedIPs are more prefixes that Here sends to There and takes from it, as one would for the subnet behind a
	// gateway. There has the address that each one names, as a host in that subnet: 10.9.0.1/24 gives it 10.9.0.1 and
	// routes 10.9.0.0/24 to it; 10.9.0.0/24 only routes.
	ExtraAllowedIPs []netip.Prefix

	// Keepalive is how often Here sends a persistent keepalive to There: whole seconds up to 65535, or 0 for never. There
	// sends none to Here.
	Keepalive time.Duration

	// Userspace takes wireguard-go, even where the kernel has WireGuard.
	Userspace bool

	// ThereHasNoEndpoint leaves There to learn Here's endpoint from the first handshake, as a server does.
	ThereHasNoEndpoint bool
}

const maxKeepalive = 65535 * time.Second

// Validate names the field that no network can be built with, and what it accepts.
func (o Options) Validate() error {
	for _, prefix := range o.ExtraAllowedIPs {
		if !prefix.IsValid() {
			return fmt.Errorf("ExtraAllowedIPs: %s: want an address and a length", prefix)
		}
	}
	if o.Keepalive < 0 || o.Keepalive > maxKeepalive || o.Keepalive%time.Second != 0 {
		return fmt.Errorf("Keepalive: %s: want whole seconds from 0s to %s", o.Keepalive, maxKeepalive)
	}
	return nil
}
