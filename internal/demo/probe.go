// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"net/netip"
	"time"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/pkg/detect"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// probe is a way in which a program begins to talk through the tunnel.
type probe struct {
	name   string
	reason lazy.Reason // why it wakes the peer of Here
	open   func() (talk, error)
	plain  time.Duration // its first round trip with plain WireGuard, once measured
}

// talk is a socket, ready to send.
type talk interface {
	// ask sends a packet, waits for the answer and returns how long that took.
	ask(ctx context.Context) (time.Duration, error)
	// flow is that of the packet, once it has been answered.
	flow() detect.Flow
	// tally counts what has come of the packet until now.
	tally() tally
	Close() error
}

// newProbes returns one probe of each kind. The echo server is There.
func newProbes(n *lab.Network, there *lab.Echo) []*probe {
	ping := func(from *lab.Host, source, to netip.Addr) func() (talk, error) {
		return func() (talk, error) { return openPing(from, source, to) }
	}
	tcp := func(to netip.AddrPort) func() (talk, error) {
		return func() (talk, error) { return &tcpTalk{from: n.Here, to: to}, nil }
	}
	udp := func(to netip.AddrPort) func() (talk, error) {
		return func() (talk, error) { return openUDP(n.Here, to) }
	}
	return []*probe{
		{name: "ping over IPv4", reason: lazy.ReasonEgress, open: ping(n.Here, n.Here.IPv4, n.There.IPv4)},
		{name: "ping over IPv6", reason: lazy.ReasonEgress, open: ping(n.Here, n.Here.IPv6, n.There.IPv6)},
		{name: "TCP over IPv4", reason: lazy.ReasonEgress, open: tcp(there.IPv4)},
		{name: "TCP over IPv6", reason: lazy.ReasonEgress, open: tcp(there.IPv6)},
		{name: "UDP over IPv4", reason: lazy.ReasonEgress, open: udp(there.IPv4)},
		{name: "UDP over IPv6", reason: lazy.ReasonEgress, open: udp(there.IPv6)},
		{name: "ping from there", reason: lazy.ReasonIngress, open: ping(n.There, n.There.IPv4, n.Here.IPv4)},
	}
}
