// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/internal/config"
	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/pkg/control"
	"github.com/lazybpf/lazybpf/pkg/detect"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// TestRules has pings that count for nothing by a rule of the interface, and in
// the second place a peer whose own rules have them count.
func TestRules(t *testing.T) {
	ignored := []detect.Rule{{Protocol: 1, Effect: detect.Ignored}, {Protocol: 58, Effect: detect.Ignored}}
	for name, own := range map[string][]detect.Rule{"of the interface": nil, "of the peer first": {{Effect: detect.Counts}}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := labtest.Network(t, lab.Options{})
			sink, err := n.There.ListenUDP(netip.AddrPortFrom(n.There.IPv4, 0))
			if err != nil {
				t.Fatal(err)
			}
			defer sink.Close()
			options := onHere(t, n)
			options.InactivityThreshold = threshold
			options.Policy.Rules = ignored
			options.Policy.Peers = []config.Peer{{Name: "there", Key: lazy.Key(n.There.PublicKey), Rules: own}}
			r := run(t, n, options)
			r.awaitThere(control.StateIdle)

			// It passes, and WireGuard has it answered.
			if _, err := n.Here.Ping(soon(t), n.There.IPv4); err != nil {
				t.Fatal(err)
			}
			if own != nil {
				awaitWakes(t, r, 1, "egress")
				return
			}
			p := r.there()
			if p.State != control.StateIdle || p.Wakes != 0 || p.TxPackets == 0 || p.RxPackets == 0 || p.LastTx != nil {
				t.Errorf("after a ping that counts for nothing: %+v", p)
			}

			conn, err := n.Here.DialUDP(netip.MustParseAddrPort(sink.LocalAddr().String()))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write([]byte("counts")); err != nil {
				t.Fatal(err)
			}
			awaitWakes(t, r, 1, "egress")
			// Nor do pings keep it awake.
			await(t, "There sleeps though it is pinged", func() bool {
				if _, err := n.Here.Ping(soon(t), n.There.IPv4); err != nil {
					t.Fatal(err)
				}
				time.Sleep(threshold / 50)
				return r.there().State == control.StateIdle
			})
		})
	}
}

// TestGroup has a packet to one router of a network wake the other, and both
// sleep together.
func TestGroup(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	const other = "FarAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	key, err := lazy.ParseKey(other)
	if err != nil {
		t.Fatal(err)
	}
	err = n.Here.Configure(wgtypes.Config{Peers: []wgtypes.PeerConfig{{
		PublicKey: wgtypes.Key(key), AllowedIPs: []net.IPNet{ipNet("10.98.0.0/24")},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	options := onHere(t, n)
	options.InactivityThreshold = threshold
	options.Policy.Peers = []config.Peer{
		{Name: "there", Key: lazy.Key(n.There.PublicKey), Groups: []string{"routers"}},
		{Name: "other", Key: key, Groups: []string{"routers"}},
	}
	r := run(t, n, options)
	idle := func() bool {
		p, found := r.find(other)
		return found && p.State == control.StateIdle && r.there().State == control.StateIdle
	}
	await(t, "both sleep", idle)
	before := r.figures().wakes
	if _, err := n.Here.Ping(soon(t), n.There.IPv4); err != nil {
		t.Fatal(err)
	}
	awaitWakes(t, r, before+1, "egress")
	await(t, "the other has woken", func() bool {
		p, _ := r.find(other)
		return p.LastWake != nil && p.LastWake.Reason == "group"
	})
	await(t, "both sleep again", idle)
}
