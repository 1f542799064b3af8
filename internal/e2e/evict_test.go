// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/internal/wg"
	"github.com/lazybpf/lazybpf/pkg/detect"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// presharedNetwork is a network whose hosts have all that WireGuard can have of a peer.
func presharedNetwork(t *testing.T) *lab.Network {
	t.Helper()
	n := labtest.Network(t, lab.Options{
		ExtraAllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24"), netip.MustParsePrefix("fd09::1/64")},
	})
	preshared, err := wgtypes.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	configurePeer(t, n.There, wgtypes.PeerConfig{PublicKey: n.Here.PublicKey, UpdateOnly: true, PresharedKey: &preshared})
	// The keepalive comes last: it makes a handshake.
	configurePeer(t, n.Here, wgtypes.PeerConfig{
		PublicKey: n.There.PublicKey, UpdateOnly: true, PresharedKey: &preshared, PersistentKeepaliveInterval: new(keepalive),
	})
	return n
}

// evictable makes parts that hold packets, and can evict.
func evictable(t *testing.T, n *lab.Network, c choice) *assembled {
	t.Helper()
	c.wake = lazy.WakeHold
	a := assemble(t, n, c)
	a.connector.EvictTo(wg.NewEvictedFile(filepath.Join(t.TempDir(), "evicted")))
	return a
}

// evict takes There off the device. The manager would ask for it after three minutes at the earliest, so the test does.
func (a *assembled) evict(n *lab.Network) {
	a.t.Helper()
	if again, err := a.connector.Evict(a.t.Context(), a.key); err != nil || !again.IsZero() {
		a.t.Fatalf("again %v, error %v", again, err)
	}
	if device, err := n.Here.Device(); err != nil || len(device.Peers) > 0 {
		a.t.Fatalf("on the device: %v, %v", device.Peers, err)
	}
}

// configured is what somebody has configured of There.
func configured(t testing.TB, n *lab.Network) string {
	t.Helper()
	p := deviceOf(t, n.Here, n.There.PublicKey)
	var all []string
	for _, ip := range p.AllowedIPs {
		all = append(all, ip.String())
	}
	slices.Sort(all)
	return strings.Join(append(all, p.PresharedKey.String(), p.Endpoint.String(), p.PersistentKeepaliveInterval.String()), " ")
}

// TestFirstPacketToEvicted sends to a peer that WireGuard does not have. It is put back whole, and the application notices no
// more than with any other that sleeps.
func TestFirstPacketToEvicted(t *testing.T) {
	for name, attach := range map[string]detect.Attach{"best": detect.AttachAuto, "clsact": detect.AttachClsact} {
		t.Run(name, func(t *testing.T) {
			n := presharedNetwork(t)
			want := configured(t, n)
			e := serveEcho(t, n)
			a := evictable(t, n, choice{attach: attach})
			evicted := func(name string, talk func(*testing.T, *lab.Network, netip.AddrPort), to netip.AddrPort) {
				t.Run(name, func(t *testing.T) {
					a.wake()
					forget(t, n, a)
					a.evict(n)
					before := a.figures()
					talk(t, n, to)
					awaitWake(t, a, before, lazy.WakeHold)
					if got := configured(t, n); got != want {
						t.Errorf("put back as\n%s, before\n%s", got, want)
					}
				})
			}
			for protocol, talk := range map[string]func(*testing.T, *lab.Network, netip.AddrPort){
				"ICMP": ping, "TCP": connect, "UDP": exchange,
			} {
				evicted(protocol+"/IPv4", talk, e.IPv4)
				evicted(protocol+"/IPv6", talk, e.IPv6)
			}
			evicted("subnet", ping, netip.MustParseAddrPort("10.9.0.1:0"))
		})
	}
}

// TestBurstToEvicted sends many datagrams before the peer is put back, and some more in that moment: all arrive, once each
// and in order. Stopped before that, lazybpf puts the peer back and sends what it holds.
func TestBurstToEvicted(t *testing.T) {
	const burst, more = 60, 20
	for name, stop := range map[string]bool{"open": false, "stop": true} {
		t.Run(name, func(t *testing.T) {
			n := presharedNetwork(t)
			want := configured(t, n)
			e := serveEcho(t, n)
			door := newDoor()
			a := evictable(t, n, choice{between: door.between})
			if err := n.ForgetSessions(); err != nil { // the first keepalive has made one
				t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond) // as ForgetSessions says
			a.evict(n)
			s, tap := newStream(t, n, e.IPv4), newTap(t, n)
			for i := range uint32(burst) {
				s.send(i)
			}
			<-door.opening
			if got, want := a.figures(), (figures{state: "connecting", reason: "egress", held: burst}); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
			sent := uint32(burst)
			if stop {
				a.stop()
			} else {
				close(door.open)
				for ; sent < burst+more; sent++ {
					s.send(sent)
				}
			}
			s.await(sent - 1)
			s.finish(sent)
			if passed := tap.numbers(); !slices.IsSorted(passed) || len(passed) != int(sent)+1 {
				t.Errorf("%d passed, in the order %d", len(passed), passed)
			}
			if got := configured(t, n); got != want {
				t.Errorf("put back as\n%s, before\n%s", got, want)
			}
		})
	}
}
