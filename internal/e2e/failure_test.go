// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

var errNoWay = errors.New("no way to the peer")

// closedRoad is a connector that finds no way to any peer until it is repaired.
type closedRoad struct {
	lazy.Connector
	repaired atomic.Bool
}

func (c *closedRoad) between(behind lazy.Connector) lazy.Connector {
	c.Connector = behind
	return c
}

func (c *closedRoad) Open(ctx context.Context, peer lazy.Key, wake lazy.Wake) error {
	if !c.repaired.Load() {
		return errNoWay
	}
	return c.Connector.Open(ctx, peer, wake)
}

// failToOpen sends a packet to There, which is held and then dropped.
func failToOpen(t *testing.T, n *lab.Network, a *assembled) {
	t.Helper()
	sendTo(t, n, netip.AddrPortFrom(n.There.IPv4, 7).String())
	await(t, "the packet is dropped", func() bool {
		s := a.status()
		return s.State == lazy.Idle && errors.Is(s.LastError, errNoWay)
	})
	if got, want := a.figures(), (figures{state: "idle", reason: "egress", held: 1, dropped: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// awaitRearmed waits until a peer that could not be opened is no longer left alone.
func awaitRearmed(t *testing.T, a *assembled) {
	t.Helper()
	await(t, "the back-off is over", func() bool { return a.status().RetryAt.IsZero() })
}

// TestFailureWithEndpoint cannot open a peer whose endpoint WireGuard knows: for a while WireGuard does as it would without
// lazybpf, and reaches the peer.
func TestFailureWithEndpoint(t *testing.T) {
	n := labtest.Network(t, lab.Options{})
	road := new(closedRoad)
	a := assemble(t, n, choice{wake: lazy.WakeHold, between: road.between})
	failToOpen(t, n, a)
	retryAt := a.status().RetryAt
	road.repaired.Store(true) // or the test would hang if it took longer than the back-off from here to the reply
	if _, err := n.Here.Ping(soon(t), n.There.IPv4); err != nil {
		t.Fatal(err)
	}
	if f := a.figures(); time.Now().Before(retryAt) && (f.held != 1 || f.state != "idle") {
		t.Errorf("during the back-off %+v", f)
	}
	worksAgain(t, n, a)
}

// worksAgain fails the test unless the peer can be woken after its back-off.
func worksAgain(t *testing.T, n *lab.Network, a *assembled) {
	t.Helper()
	awaitRearmed(t, a)
	before := a.figures()
	if _, err := n.Here.Ping(soon(t), n.There.IPv4); err != nil {
		t.Fatal(err)
	}
	if before.wakes == 0 {
		awaitWake(t, a, before, lazy.WakeHold)
	}
}

// TestFailureWithoutEndpoint cannot open a peer of which nobody knows where it is. WireGuard's own answer gets to the
// application at once; wireguard-go has none.
//
//	Here                                There
//	no endpoint for There ───────────── veth1b 198.18.1.2:51821
func TestFailureWithoutEndpoint(t *testing.T) {
	n := labtest.Network(t, lab.Options{})
	there := deviceOf(t, n.Here, n.There.PublicKey)
	err := n.Here.Configure(wgtypes.Config{ReplacePeers: true, Peers: []wgtypes.PeerConfig{
		{PublicKey: there.PublicKey, AllowedIPs: there.AllowedIPs},
	}})
	if err != nil {
		t.Fatal(err)
	}
	road := new(closedRoad)
	a := assemble(t, n, choice{wake: lazy.WakeHold, between: road.between,
		resolve: func(context.Context, lazy.Key) (netip.AddrPort, error) { return n.There.Endpoint, nil },
	})
	failToOpen(t, n, a)
	if n.Kind() == lab.Kernel {
		_, err := n.Here.Ping(soon(t), n.There.IPv4)
		if !errors.Is(err, unix.EDESTADDRREQ) && !errors.Is(err, unix.EHOSTUNREACH) {
			t.Errorf("WireGuard answers %v", err)
		}
	}
	road.repaired.Store(true)
	worksAgain(t, n, a)
}
