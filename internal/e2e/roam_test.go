// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"net/netip"
	"sync/atomic"
	"testing"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// TestRoaming has There move to another port while it sleeps at Here, and wake Here from there. WireGuard has just learned
// where There is: nobody must make it forget that.
//
//	Here                                There
//	veth1a 198.18.1.1:51821 ─────────── veth1b 198.18.1.2:51821, then :52821
func TestRoaming(t *testing.T) {
	for name, start := range map[string]func(*testing.T, *lab.Network) subject{
		"daemon": func(t *testing.T, n *lab.Network) subject { return run(t, n, onHere(t, n)) },
		// This one asks where There is, and would hear of the old place.
		"resolver": func(t *testing.T, n *lab.Network) subject {
			var asked atomic.Int32
			t.Cleanup(func() {
				if got := asked.Load(); got != 1 {
					t.Errorf("asked for the endpoint %d times, want once: for the packet to There", got)
				}
			})
			return assemble(t, n, choice{resolve: func(context.Context, lazy.Key) (netip.AddrPort, error) {
				asked.Add(1)
				return n.There.Endpoint, nil
			}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := labtest.Network(t, lab.Options{})
			s := start(t, n)
			if _, err := n.Here.Ping(soon(t), n.There.IPv4); err != nil {
				t.Fatal(err)
			}
			s.park()

			moved := netip.AddrPortFrom(n.There.Endpoint.Addr(), n.There.Endpoint.Port()+1000)
			if err := n.There.Configure(wgtypes.Config{ListenPort: new(int(moved.Port()))}); err != nil {
				t.Fatal(err)
			}
			if _, err := n.There.Ping(soon(t), n.Here.IPv4); err != nil {
				t.Fatal(err)
			}
			await(t, "There wakes", func() bool { return s.figures().wakes == 2 })
			if got := s.figures().reason; got != "ingress" {
				t.Errorf("woken by %s", got)
			}
			learned := deviceOf(t, n.Here, n.There.PublicKey).Endpoint.AddrPort()
			if got := netip.AddrPortFrom(learned.Addr().Unmap(), learned.Port()); got != moved {
				t.Errorf("endpoint %s, want %s", got, moved)
			}
			for range 3 {
				if _, err := n.Here.Ping(soon(t), n.There.IPv4); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
