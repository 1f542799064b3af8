// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/internal/daemon"
	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/pkg/control"
)

const threshold = time.Second

// runImpatient runs a daemon that puts peers to sleep after the threshold.
func runImpatient(t *testing.T, n *lab.Network) *running {
	t.Helper()
	options := onHere(t, n)
	options.InactivityThreshold = threshold
	options.OpenTimeout = time.Hour // no other deadline may put them to sleep
	return run(t, n, options)
}

// awaitWakes waits until There has been woken that often, and fails the test if the last reason is another.
func awaitWakes(t *testing.T, r *running, wakes uint64, reason string) {
	t.Helper()
	await(t, "There wakes", func() bool { return r.figures().wakes == wakes })
	if got := r.figures().reason; got != reason {
		t.Errorf("woken by %s, want %s", got, reason)
	}
}

// TestOneWayTraffic has traffic in one direction only, which must keep the peer awake whichever it is.
func TestOneWayTraffic(t *testing.T) {
	for _, reason := range []string{"egress", "ingress"} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			n := labtest.Network(t, lab.Options{})
			from, to := n.Here, n.There
			if reason == "ingress" {
				from, to = to, from
			}
			sink, err := to.ListenUDP(netip.AddrPortFrom(to.IPv4, 0))
			if err != nil {
				t.Fatal(err)
			}
			defer sink.Close()
			conn, err := from.DialUDP(netip.MustParseAddrPort(sink.LocalAddr().String()))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()

			r := runImpatient(t, n)
			tick := time.NewTicker(threshold / 20)
			defer tick.Stop()
			for begin := time.Now(); time.Since(begin) < 3*threshold; <-tick.C {
				if _, err := conn.Write([]byte("one way")); err != nil {
					t.Fatal(err)
				}
			}
			p := r.there()
			if p.State != control.StateConnected || p.Wakes != 1 || p.LastWake.Reason != reason {
				t.Errorf("after %v of traffic: %+v", 3*threshold, p)
			}
			if p.TxPackets > 0 && p.RxPackets > 0 {
				t.Errorf("%d packets sent, %d received: there was to be but one direction", p.TxPackets, p.RxPackets)
			}
			r.awaitThere(control.StateIdle)
		})
	}
}

// TestKeepalives has both sides send keepalives every second: they neither keep the peer awake nor wake it.
func TestKeepalives(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	// The session comes first: two keepalives at once would ask for two, and WireGuard may lose both for 5 s.
	if _, err := n.Here.Ping(soon(t), n.There.IPv4); err != nil {
		t.Fatal(err)
	}
	setKeepalive(t, n.Here, n.There.PublicKey, time.Second)
	setKeepalive(t, n.There, n.Here.PublicKey, time.Second)
	r := runImpatient(t, n)
	r.awaitThere(control.StateIdle)

	const keepaliveSize = 32 // bytes: a transport message without payload
	received := func() int64 { return deviceOf(t, n.Here, n.There.PublicKey).ReceiveBytes }
	before, begin := r.figures(), received()
	await(t, "three keepalives of There", func() bool { return received() >= begin+3*keepaliveSize })
	if after := r.figures(); after != before {
		t.Errorf("%+v after some keepalives, %+v before", after, before)
	}
}

func setKeepalive(t *testing.T, h *lab.Host, peer wgtypes.Key, interval time.Duration) {
	t.Helper()
	err := h.Configure(wgtypes.Config{Peers: []wgtypes.PeerConfig{
		{PublicKey: peer, UpdateOnly: true, PersistentKeepaliveInterval: &interval},
	}})
	if err != nil {
		t.Fatal(err)
	}
}

// TestSleepAndWakeAgain wakes a peer several times, from either side. It falls asleep after each.
func TestSleepAndWakeAgain(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{Keepalive: keepalive})
	r := runImpatient(t, n)
	r.awaitThere(control.StateIdle)
	wakes := r.figures().wakes
	for _, reason := range []string{"ingress", "egress", "egress", "ingress", "ingress"} {
		from, to := n.Here, n.There
		if reason == "ingress" {
			from, to = to, from
		}
		if _, err := from.Ping(soon(t), to.IPv6); err != nil {
			t.Fatal(err)
		}
		wakes++
		awaitWakes(t, r, wakes, reason)
		awaitKeepalive(t, n, keepalive)
		r.awaitThere(control.StateIdle)
		awaitKeepalive(t, n, 0)
	}
}

// TestSubnetBehindAPeer wakes a peer by packets to the networks behind it, before and after it has slept.
//
//	Here                              There ── 10.9.0.0/24, fd09::/64
//	wg1a routes both to There         lo 10.9.0.1, fd09::1
func TestSubnetBehindAPeer(t *testing.T) {
	t.Parallel()
	behind := []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24"), netip.MustParsePrefix("fd09::1/64")}
	n := labtest.Network(t, lab.Options{ExtraAllowedIPs: behind})
	r := runImpatient(t, n)
	wakes := uint64(0)
	for range 2 {
		for _, prefix := range behind {
			if _, err := n.Here.Ping(soon(t), prefix.Addr()); err != nil {
				t.Fatal(err)
			}
			wakes++
			awaitWakes(t, r, wakes, "egress")
			r.awaitThere(control.StateIdle)
			if got := len(deviceOf(t, n.Here, n.There.PublicKey).AllowedIPs); got != 4 {
				t.Fatalf("WireGuard has %d allowed IPs of a sleeping peer, want 4", got)
			}
		}
	}
}

// TestStatusWakesNobody reads the status of a peer that nobody ever talked to.
func TestStatusWakesNobody(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	r := run(t, n, onHere(t, n))
	for range 100 {
		if got, want := r.status().Counts, (control.Counts{Idle: 1}); got != want {
			t.Fatalf("%+v, want %+v", got, want)
		}
	}
	if got, want := r.figures(), (figures{state: control.StateIdle}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	for h, peer := range map[*lab.Host]wgtypes.Key{n.Here: n.There.PublicKey, n.There: n.Here.PublicKey} {
		if p := deviceOf(t, h, peer); p.TransmitBytes != 0 || p.ReceiveBytes != 0 {
			t.Errorf("%s has sent %d bytes and received %d", h.Name, p.TransmitBytes, p.ReceiveBytes)
		}
	}
}

// TestMulticast sends to groups of the link, as the kernel and mDNS do on any interface: a peer that takes all addresses
// sleeps on. What goes beyond the link is traffic like any other.
//
//	Here                                               There
//	wg1a routes ::/0 and 224.0.0.0/4 to There
func TestMulticast(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{ExtraAllowedIPs: []netip.Prefix{
		netip.MustParsePrefix("::/0"), netip.MustParsePrefix("224.0.0.0/4"),
	}})
	r := run(t, n, onHere(t, n))
	groups := []string{"[ff02::1%" + n.Here.Name + "]:5353", "[ff02::fb%" + n.Here.Name + "]:5353", "224.0.0.251:5353"}
	for _, group := range groups {
		sendTo(t, n, group)
	}
	// The kernel may have something to say to a group, too.
	if got := ignored(t, r.options); got < uint64(len(groups)) {
		t.Fatalf("%d packets were ignored, %d were sent", got, len(groups))
	}
	if got, want := r.figures(), (figures{state: control.StateIdle}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	// Nobody answers what was sent to a group. What There says of the other is the last packet.
	for i, beyond := range []string{"239.0.0.251:5353", "[2620:fe::fe]:5353"} {
		sendTo(t, n, beyond)
		awaitWakes(t, r, uint64(i+1), "egress")
		r.park()
	}
}

// sendTo sends a datagram from Here to whoever has the address.
func sendTo(t *testing.T, n *lab.Network, address string) {
	t.Helper()
	conn, err := n.Here.DialUDP(netip.MustParseAddrPort(address))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("is anybody there?")); err != nil {
		t.Fatal(err)
	}
}

// ignored is how many packets the daemon has ignored, as anybody can read it in bpffs.
func ignored(t *testing.T, options daemon.Options) uint64 {
	t.Helper()
	stats, err := ebpf.LoadPinnedMap(filepath.Join(daemon.PinDir(options.BPFFS, options.Interface), "stats"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stats.Close()
	var counters struct{ Unrouted, Ignored, Malformed, EventsLost uint64 }
	if err := stats.Lookup(uint32(0), &counters); err != nil {
		t.Fatal(err)
	}
	return counters.Ignored
}
