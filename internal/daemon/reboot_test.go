// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/internal/config"
	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/pkg/control"
)

// shared is the preshared key of Here and There.
var shared = wgtypes.Key{'s', 'h', 'a', 'r', 'e', 'd'}

// reboot makes There forget its session with Here, as a machine does that starts.
func reboot(t *testing.T, n *lab.Network) {
	t.Helper()
	here := netip.PrefixFrom(n.Here.IPv4, 32).String()
	if err := n.There.Configure(wgtypes.Config{ReplacePeers: true, Peers: []wgtypes.PeerConfig{
		{PublicKey: n.Here.PublicKey, PresharedKey: &shared, AllowedIPs: ipNets(t, here)},
	}}); err != nil {
		t.Fatal(err)
	}
}

// TestHookStartsPeer has a peer with a hook wake, which was shut down while it slept, or was not: its first packet arrives,
// although WireGuard has a session with it of a moment ago. All that the peer had stays.
func TestHookStartsPeer(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]func(*testing.T, *lab.Network){
		"started": reboot, "was running": func(*testing.T, *lab.Network) {},
	} {
		t.Run(name, func(t *testing.T) {
			n := labtest.Network(t, lab.Options{Keepalive: every})
			whole := peerOf(t, there(n), netip.PrefixFrom(n.There.IPv4, 32).String())
			whole.PresharedKey, whole.Endpoint = &shared, net.UDPAddrFromAddrPort(n.There.Endpoint)
			set(t, n, there(n), wgtypes.PeerConfig{Remove: true})
			reboot(t, n)
			set(t, n, there(n), whole)
			hook := filepath.Join(t.TempDir(), "hook")
			if err := os.WriteFile(hook, []byte("#!/bin/sh\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			options := optionsFor(t, n)
			options.Policy.Peers = []config.Peer{{Name: "there", Key: there(n), Hook: []string{hook}}}
			d := manage(t, options)
			do(t, backend{d}.Wake, "there")
			ping(t, n, n.There.IPv4)
			do(t, backend{d}.Sleep, "there")
			before, _ := onDevice(t, n, there(n))
			soon(t, "WireGuard takes another handshake", func() bool { // 20 ms after the last one
				return time.Since(before.LastHandshakeTime) > 100*time.Millisecond
			})

			meanwhile(t, n)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if _, err := n.Here.Ping(ctx, n.There.IPv4); err != nil {
				t.Errorf("the packet that woke it: %v", err)
			}
			expectState(t, d, there(n), control.StateConnected)
			expectKeepalive(t, n, there(n), every)
			after, _ := onDevice(t, n, there(n))
			if after.PresharedKey != shared || len(after.AllowedIPs) != len(before.AllowedIPs) ||
				after.Endpoint.String() != before.Endpoint.String() {
				t.Errorf("before\n%+v, after\n%+v", before, after)
			}
			reread(t, d)
			if p := statusOf(t, d, there(n)); p.State != control.StateConnected || p.Dropped != 0 {
				t.Errorf("status %+v", p)
			}
			expectKeepalive(t, n, there(n), every)
		})
	}
}
