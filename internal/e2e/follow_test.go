// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/internal/daemon"
	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/pkg/control"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// stranger is a peer that does not exist: nobody has its private key.
func stranger(t testing.TB) wgtypes.Key {
	t.Helper()
	key, err := wgtypes.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func configurePeer(t testing.TB, h *lab.Host, peer wgtypes.PeerConfig) {
	t.Helper()
	if err := h.Configure(wgtypes.Config{Peers: []wgtypes.PeerConfig{peer}}); err != nil {
		t.Fatal(err)
	}
}

func ipNet(prefix string) net.IPNet {
	_, n, err := net.ParseCIDR(prefix)
	if err != nil {
		panic(err)
	}
	return *n
}

// noticed waits for the daemon to notice a change that somebody else makes on the interface, and logs how long it took.
func noticed(t testing.TB, what string, holds func() bool) {
	t.Helper()
	begin := time.Now()
	await(t, what, holds)
	t.Logf("%s: after %v", what, time.Since(begin).Round(time.Millisecond))
}

// TestPeersComeAndGo adds a peer to the interface, changes and removes it, while the daemon runs.
//
//	Here                                        There
//	wg1a routes 10.8.0.0/16 to There,           a stranger, at first 10.8.0.1, then 10.8.0.2:
//	but one address of it to the stranger       it does not exist
func TestPeersComeAndGo(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{ExtraAllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.8.0.0/16")}})
	r := run(t, n, onHere(t, n))
	key := stranger(t)
	isKnown := func() bool { _, known := r.find(key.String()); return known }
	has := func(prefix string) func() bool {
		return func() bool {
			p, _ := r.find(key.String())
			return slices.Equal(p.AllowedIPs, []string{prefix})
		}
	}
	wakesBy := func(address string) {
		t.Helper()
		sendTo(t, n, address)
		await(t, "a packet wakes the stranger", func() bool {
			p, _ := r.find(key.String())
			return p.State == control.StateConnected && p.Wakes == 1
		})
		if p := r.there(); p.State != control.StateIdle || p.Wakes != 0 {
			t.Errorf("a packet for the stranger woke There: %+v", p)
		}
	}

	configurePeer(t, n.Here, wgtypes.PeerConfig{
		PublicKey:                   key,
		Endpoint:                    net.UDPAddrFromAddrPort(netip.AddrPortFrom(n.There.UnderlayIPv4, 9)), // or it takes no packets
		PersistentKeepaliveInterval: new(keepalive),
		AllowedIPs:                  []net.IPNet{ipNet("10.8.0.1/32")},
	})
	noticed(t, "a peer is added", isKnown)
	if p, _ := r.find(key.String()); p.State != control.StateIdle {
		t.Errorf("a peer without handshake is added: %+v", p)
	}
	if got := keepaliveOf(t, n.Here, key); got != 0 {
		t.Errorf("keepalive %v of a sleeping peer", got)
	}

	configurePeer(t, n.Here, wgtypes.PeerConfig{
		PublicKey: key, UpdateOnly: true, ReplaceAllowedIPs: true, AllowedIPs: []net.IPNet{ipNet("10.8.0.2/32")},
	})
	noticed(t, "allowed IPs are changed", has("10.8.0.2/32"))
	wakesBy("10.8.0.2:7")
	await(t, "its keepalive is on", func() bool { return keepaliveOf(t, n.Here, key) == keepalive })

	configurePeer(t, n.Here, wgtypes.PeerConfig{PublicKey: key, Remove: true})
	noticed(t, "a peer is removed", func() bool { return !isKnown() })
	// Its address is There's again.
	sendTo(t, n, "10.8.0.2:7")
	awaitWakes(t, r, 1, "egress")
}

// TestKeepaliveChanges has somebody else set the keepalive of a peer: from then on it is that which the peer has while it is
// awake.
func TestKeepaliveChanges(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{Keepalive: keepalive})
	r := run(t, n, onHere(t, n))
	isAdopted := func(want time.Duration) func() bool {
		return func() bool {
			left, err := daemon.JournalOf(r.options.Control).Load()
			if err != nil {
				t.Fatal(err)
			}
			return left.Peers[lazy.Key(n.There.PublicKey)].Original == want
		}
	}
	await(t, "the original is in the journal", isAdopted(keepalive))

	r.command(r.client.Wake)
	setKeepalive(t, n.Here, n.There.PublicKey, 20*time.Second)
	noticed(t, "keepalive of a connected peer is changed", isAdopted(20*time.Second))
	awaitKeepalive(t, n, 20*time.Second)
	r.park()
	awaitKeepalive(t, n, 0)
	r.command(r.client.Wake)
	awaitKeepalive(t, n, 20*time.Second)

	r.park()
	awaitKeepalive(t, n, 0)
	setKeepalive(t, n.Here, n.There.PublicKey, 15*time.Second)
	noticed(t, "keepalive of a sleeping peer is changed", isAdopted(15*time.Second))
	awaitKeepalive(t, n, 0)
	if p := r.there(); p.State != control.StateIdle {
		t.Errorf("somebody has set the keepalive of a sleeping peer: now it is %s", p.State)
	}
	r.command(r.client.Wake)
	awaitKeepalive(t, n, 15*time.Second)
	r.stop()
	awaitKeepalive(t, n, 15*time.Second)
}

// TestStartStates starts a daemon with two peers: There, which has a session, and a stranger, which has none.
func TestStartStates(t *testing.T) {
	n := labtest.Network(t, lab.Options{Keepalive: keepalive})
	key := stranger(t)
	configurePeer(t, n.Here, wgtypes.PeerConfig{PublicKey: key, AllowedIPs: []net.IPNet{ipNet("10.8.0.1/32")}})
	if _, err := n.Here.Ping(soon(t), n.There.IPv4); err != nil {
		t.Fatal(err)
	}
	r := run(t, n, onHere(t, n))
	if p := r.there(); p.State != control.StateConnected || p.LastWake.Reason != "start" {
		t.Errorf("a peer with a session starts as %+v", p)
	}
	if got := keepaliveOf(t, n.Here, n.There.PublicKey); got != keepalive {
		t.Errorf("its keepalive is %v, want %v as before", got, keepalive)
	}
	if p, _ := r.find(key.String()); p.State != control.StateIdle {
		t.Errorf("a peer without session starts as %+v", p)
	}
}
