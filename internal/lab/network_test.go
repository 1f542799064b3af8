// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// reach fails the test unless all overlay addresses answer, from both sides.
func reach(t *testing.T, n *Network) {
	t.Helper()
	ctx := soon(t)
	for _, way := range []struct{ from, to *Host }{{n.Here, n.There}, {n.There, n.Here}} {
		for _, to := range []netip.Addr{way.to.IPv4, way.to.IPv6} {
			rtt, err := way.from.Ping(ctx, to)
			if err != nil {
				t.Errorf("from %s: %v", way.from.Name, err)
				continue
			}
			t.Logf("from %s to %s: %v", way.from.Name, to, rtt)
		}
	}
}

func handshake(t *testing.T, h *Host, peer wgtypes.Key) time.Time {
	t.Helper()
	at, err := h.LastHandshake(peer)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestTunnel(t *testing.T) {
	for name, opts := range map[string]Options{"best kind": {}, "userspace": {Userspace: true}} {
		t.Run(name, func(t *testing.T) {
			n := newNetwork(t, opts)
			t.Log(n.Kind())
			if opts.Userspace && n.Kind() != WireGuardGo {
				t.Errorf("made of %s WireGuard, asked for %s", n.Kind(), WireGuardGo)
			}
			if _, err := os.Stat("/sys/module/wireguard"); err == nil && !opts.Userspace && n.Kind() != Kernel {
				t.Errorf("made of %s WireGuard, and the kernel has it", n.Kind())
			}
			for _, h := range []*Host{n.Here, n.There} {
				if len(h.Name) > 10 {
					t.Errorf("interface name %s is longer than 10 bytes", h.Name)
				}
			}
			if at := handshake(t, n.Here, n.There.PublicKey); !at.IsZero() {
				t.Errorf("handshake at %v, before any traffic", at)
			}
			reach(t, n)
			for h, peer := range map[*Host]wgtypes.Key{n.Here: n.There.PublicKey, n.There: n.Here.PublicKey} {
				if since := time.Since(handshake(t, h, peer)); since > 10*time.Second {
					t.Errorf("%s: last handshake %v ago", h.Name, since)
				}
			}
		})
	}
}

func TestLastHandshakeOfAStranger(t *testing.T) {
	n := newNetwork(t, Options{})
	if _, err := n.Here.LastHandshake(wgtypes.Key{1}); !errors.Is(err, ErrNoPeer) {
		t.Errorf("error %v, want ErrNoPeer", err)
	}
}

// TestPortIsThere has WireGuard's socket only in the namespace of its host.
func TestPortIsThere(t *testing.T) {
	n := newNetwork(t, Options{})
	for _, h := range []*Host{n.Here, n.There} {
		if l, err := h.ListenUDP(h.Endpoint); !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("%s does not listen on %s: %v", h.Name, h.Endpoint, err)
			l.Close()
		}
	}
	// A port that moves is opened by a thread of wireguard-go's.
	moved := netip.AddrPortFrom(n.There.UnderlayIPv4, n.There.Endpoint.Port()+1000)
	if err := n.There.Configure(wgtypes.Config{ListenPort: new(int(moved.Port()))}); err != nil {
		t.Fatal(err)
	}
	if l, err := n.There.ListenUDP(moved); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("%s does not listen on %s: %v", n.There.Name, moved, err)
		l.Close()
	}
	l, err := n.Here.ListenUDP(netip.AddrPortFrom(n.Here.UnderlayIPv4, moved.Port()))
	if err != nil {
		t.Errorf("%s listens in the wrong namespace: %v", n.There.Name, err)
	} else {
		l.Close()
	}
}

func TestForgetSessions(t *testing.T) {
	n := newNetwork(t, Options{})
	psk, err := wgtypes.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	peers := map[*Host]wgtypes.Key{n.Here: n.There.PublicKey, n.There: n.Here.PublicKey}
	before := make(map[*Host]*wgtypes.Peer)
	for h, peer := range peers {
		err := h.Configure(wgtypes.Config{Peers: []wgtypes.PeerConfig{{PublicKey: peer, UpdateOnly: true, PresharedKey: &psk}}})
		if err != nil {
			t.Fatal(err)
		}
		if before[h], err = h.peer(peer); err != nil {
			t.Fatal(err)
		}
	}
	reach(t, n)
	for range 3 {
		if err := n.ForgetSessions(); err != nil {
			t.Fatal(err)
		}
		for h, peer := range peers {
			after, err := h.peer(peer)
			if err != nil {
				t.Fatal(err)
			}
			if !after.LastHandshakeTime.IsZero() || after.TransmitBytes != 0 || after.ReceiveBytes != 0 {
				t.Errorf("%s remembers: %+v", h.Name, after)
			}
			if got, want := settings(after), settings(before[h]); got != want {
				t.Errorf("%s: peer is now\n%s\nwant\n%s", h.Name, got, want)
			}
		}
		reach(t, n)
		time.Sleep(50 * time.Millisecond) // as ForgetSessions says
	}
}

// settings are what a peer was configured with.
func settings(p *wgtypes.Peer) string {
	allowed := make([]string, len(p.AllowedIPs))
	for i, ip := range p.AllowedIPs {
		allowed[i] = ip.String()
	}
	slices.Sort(allowed)
	return fmt.Sprint(p.PresharedKey, p.Endpoint, p.PersistentKeepaliveInterval, allowed)
}

// TestKeepalive sees the handshake that a keepalive asks for with no other traffic. A first one that found the other side
// unprepared would take 5 s.
func TestKeepalive(t *testing.T) {
	n := newNetwork(t, Options{Keepalive: 25 * time.Second})
	waitForHandshake(t, n.Here, n.There.PublicKey)
	if err := n.ForgetSessions(); err != nil {
		t.Fatal(err)
	}
	waitForHandshake(t, n.Here, n.There.PublicKey)
	for h, want := range map[*Host]time.Duration{n.Here: 25 * time.Second, n.There: 0} {
		device, err := h.Device()
		if err != nil {
			t.Fatal(err)
		}
		if got := device.Peers[0].PersistentKeepaliveInterval; got != want {
			t.Errorf("%s: keepalive %v, want %v", h.Name, got, want)
		}
	}
}

func waitForHandshake(t *testing.T, h *Host, peer wgtypes.Key) {
	t.Helper()
	for ctx := soon(t); handshake(t, h, peer).IsZero(); time.Sleep(time.Millisecond) {
		if ctx.Err() != nil {
			t.Fatalf("%s: no handshake", h.Name)
		}
	}
}

func TestThereHasNoEndpoint(t *testing.T) {
	n := newNetwork(t, Options{ThereHasNoEndpoint: true})
	peer, err := n.There.peer(n.Here.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	if peer.Endpoint != nil {
		t.Errorf("There has endpoint %s", peer.Endpoint)
	}
	reach(t, n)
}

func TestExtraAllowedIPs(t *testing.T) {
	n := newNetwork(t, Options{ExtraAllowedIPs: []netip.Prefix{
		netip.MustParsePrefix("10.9.0.1/24"),
		netip.MustParsePrefix("fd09::1/64"),
		netip.MustParsePrefix("10.10.0.0/16"),
		netip.MustParsePrefix("9.9.9.9/0"),
		netip.MustParsePrefix("2620:fe::9/0"),
	}})
	for _, to := range []string{"10.9.0.1", "fd09::1", "9.9.9.9", "2620:fe::9"} {
		if _, err := n.Here.Ping(soon(t), netip.MustParseAddr(to)); err != nil {
			t.Error(err)
		}
	}
	reach(t, n)
}

func TestDownAndUp(t *testing.T) {
	for name, opts := range map[string]Options{"best kind": {Keepalive: time.Minute}, "userspace": {Userspace: true}} {
		t.Run(name, func(t *testing.T) {
			n := newNetwork(t, opts)
			index := func() int {
				link, err := net.InterfaceByName(n.Here.Name)
				if err != nil {
					return 0
				}
				return link.Index
			}
			first := index()
			for range 2 {
				if err := n.Down(); err != nil {
					t.Fatal(err)
				}
				if now := index(); now != 0 {
					t.Errorf("after Down there is %d", now)
				}
				if _, err := n.Here.Device(); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("after Down: %v", err)
				}
				early := 0
				if err := n.Up(func() { early = index() }); err != nil {
					t.Fatal(err)
				}
				if now := index(); now == first || now == 0 || early != now {
					t.Errorf("index %d, early %d; the first was %d", now, early, first)
				}
				reach(t, n)
				device, err := n.Here.Device()
				if err != nil {
					t.Fatal(err)
				}
				if p := device.Peers[0]; len(device.Peers) != 1 || p.PersistentKeepaliveInterval != opts.Keepalive {
					t.Errorf("peers %v", device.Peers)
				}
			}
		})
	}
}

func TestOptionsThatCannotBe(t *testing.T) {
	for field, opts := range map[string]Options{
		"ExtraAllowedIPs": {ExtraAllowedIPs: []netip.Prefix{{}}},
		"Keepalive":       {Keepalive: 1500 * time.Millisecond},
	} {
		if err := opts.Validate(); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("error %v, want one that names %s", err, field)
		}
		if _, err := New(opts); err == nil {
			t.Errorf("New took a bad %s", field)
		}
	}
}

func TestTwoNetworks(t *testing.T) {
	first, second := newNetwork(t, Options{}), newNetwork(t, Options{})
	reach(t, first)
	reach(t, second)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	reach(t, second)
}

func TestCloseLeavesNothing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	n, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	reach(t, n)
	e, err := n.There.ServeEcho()
	if err != nil {
		t.Fatal(err)
	}
	// An idle connection must hold up neither of them.
	tcp, err := n.Here.DialTCP(soon(t), e.IPv4)
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	if n.Kind() == WireGuardGo {
		uapi, err := net.Dial("unix", uapiDir+"/"+n.Here.Name+".sock")
		if err != nil {
			t.Fatal(err)
		}
		defer uapi.Close()
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if err := n.Close(); err != nil {
		t.Error("closing again:", err)
	}

	checkNothingLeft(t)
}

func TestFailedNewLeavesNothing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	n, err := New(Options{ExtraAllowedIPs: []netip.Prefix{netip.MustParsePrefix("ff02::1/128")}})
	if err == nil {
		n.Close()
		t.Fatal("There could be given a multicast address")
	}
	t.Log(err)
	checkNothingLeft(t)
}

// checkNothingLeft looks at what a Network could leave behind in this namespace.
func checkNothingLeft(t *testing.T) {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if name := link.Attrs().Name; name != "lo" {
			t.Errorf("link %s is left", name)
		}
	}
	sockets, err := os.ReadDir(uapiDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, s := range sockets {
		t.Errorf("%s/%s is left", uapiDir, s.Name())
	}
}
