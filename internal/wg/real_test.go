// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// open opens a device for the length of a test.
func open(t *testing.T, name string) *Device {
	t.Helper()
	d, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// theirs is how Here sees There, as wgctrl reads it.
func theirs(t *testing.T, n *lab.Network) wgtypes.Peer {
	t.Helper()
	device, err := n.Here.Device()
	if err != nil {
		t.Fatal(err)
	}
	if len(device.Peers) != 1 || device.Peers[0].PublicKey != n.There.PublicKey {
		t.Fatalf("%s has other peers than the one it should: %+v", n.Here.Name, device.Peers)
	}
	return device.Peers[0]
}

func configure(t *testing.T, n *lab.Network, peer wgtypes.PeerConfig) {
	t.Helper()
	peer.PublicKey = n.There.PublicKey
	if err := n.Here.Configure(wgtypes.Config{Peers: []wgtypes.PeerConfig{peer}}); err != nil {
		t.Fatal(err)
	}
}

// TestRealPeer closes and opens a peer of a real device, which keeps all else it has of it.
func TestRealPeer(t *testing.T) {
	n := labtest.Network(t, lab.Options{
		Keepalive:       every,
		ExtraAllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24"), netip.MustParsePrefix("fd09::/64")},
	})
	preshared, err := wgtypes.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	configure(t, n, wgtypes.PeerConfig{UpdateOnly: true, PresharedKey: &preshared})

	d := open(t, n.Here.Name)
	if d.Name() != n.Here.Name || d.Kind() == "" {
		t.Errorf("name %q and kind %q of %s", d.Name(), d.Kind(), n.Here.Name)
	}
	peers, err := d.Peers()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range peers {
		slices.SortFunc(p.AllowedIPs, netip.Prefix.Compare)
	}
	key := lazy.Key(n.There.PublicKey)
	want := []Peer{{
		Key: key, Endpoint: n.There.Endpoint, Keepalive: every,
		AllowedIPs: []netip.Prefix{
			netip.PrefixFrom(n.There.IPv4, 32), netip.MustParsePrefix("10.9.0.0/24"),
			netip.PrefixFrom(n.There.IPv6, 128), netip.MustParsePrefix("fd09::/64"),
		},
	}}
	slices.SortFunc(want[0].AllowedIPs, netip.Prefix.Compare)
	for i := range peers {
		peers[i].LastHandshake = time.Time{} // the keepalive may have made one
	}
	if !reflect.DeepEqual(peers, want) {
		t.Errorf("peers\n%+v, want\n%+v", peers, want)
	}

	elsewhere := netip.MustParseAddrPort("192.0.2.9:1")
	c := NewConnector(d, resolve(func(context.Context, lazy.Key) (netip.AddrPort, error) { return elsewhere, nil }))
	c.Adopt(peers[0], every, true)
	for _, step := range []struct {
		name      string
		do        func() error
		keepalive time.Duration
		endpoint  netip.AddrPort
	}{
		{"close", func() error { return c.Close(t.Context(), key) }, 0, n.There.Endpoint},
		{"open after ingress", func() error { return c.Open(t.Context(), key, lazy.Wake{Reason: lazy.ReasonIngress}) },
			0, n.There.Endpoint},
		{"a moment later", func() error { c.setWaiting(); return nil }, every, n.There.Endpoint},
		{"close again", func() error { return c.Close(t.Context(), key) }, 0, n.There.Endpoint},
		{"open", func() error { return c.Open(t.Context(), key, lazy.Wake{Reason: lazy.ReasonEgress}) }, every, elsewhere},
		{"close all", func() error { return c.CloseAll([]lazy.Key{key}) }, 0, elsewhere},
		{"give back", c.GiveBack, every, elsewhere},
	} {
		before := theirs(t, n)
		if err := step.do(); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
		p := theirs(t, n)
		if p.PersistentKeepaliveInterval != step.keepalive || p.Endpoint.String() != step.endpoint.String() {
			t.Errorf("%s: keepalive %s at %s, want %s at %s",
				step.name, p.PersistentKeepaliveInterval, p.Endpoint, step.keepalive, step.endpoint)
		}
		if p.PresharedKey != preshared {
			t.Errorf("%s: the preshared key is another", step.name)
		}
		if !reflect.DeepEqual(p.AllowedIPs, before.AllowedIPs) {
			t.Errorf("%s: allowed IPs %v, before %v", step.name, p.AllowedIPs, before.AllowedIPs)
		}
	}
}

// TestRealRemovedPeer opens and closes a peer that somebody has removed: it must not come back.
func TestRealRemovedPeer(t *testing.T) {
	n := labtest.Network(t, lab.Options{Keepalive: every})
	c := NewConnector(open(t, n.Here.Name), resolve(func(context.Context, lazy.Key) (netip.AddrPort, error) {
		return n.There.Endpoint, nil
	}))
	key := lazy.Key(n.There.PublicKey)
	c.Adopt(Peer{Key: key, Keepalive: every}, every, true)
	configure(t, n, wgtypes.PeerConfig{Remove: true})
	for name, err := range map[string]error{
		"close":     c.Close(t.Context(), key),
		"open":      c.Open(t.Context(), key, lazy.Wake{}),
		"close all": c.CloseAll([]lazy.Key{key}),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if device, err := n.Here.Device(); err != nil || len(device.Peers) > 0 {
		t.Errorf("peers %v, %v; want none", device.Peers, err)
	}
}

// TestRealJournal is a daemon that dies with a dormant peer, and what comes after it.
func TestRealJournal(t *testing.T) {
	n := labtest.Network(t, lab.Options{Keepalive: every})
	d := open(t, n.Here.Name)
	key := lazy.Key(n.There.PublicKey)
	c := NewConnector(d, nil)
	c.Adopt(Peer{Key: key, Keepalive: every}, every, true)
	j := newJournal(t)
	if err := errors.Join(j.Save(c.Record()), c.Close(t.Context(), key)); err != nil {
		t.Fatal(err)
	}
	if got := theirs(t, n).PersistentKeepaliveInterval; got != 0 {
		t.Fatalf("keepalive %s of a closed peer", got)
	}
	if count, err := j.Restore(d); count != 1 || err != nil {
		t.Errorf("%d restored, %v; want 1", count, err)
	}
	if got := theirs(t, n).PersistentKeepaliveInterval; got != every {
		t.Errorf("keepalive %s, want %s", got, every)
	}
	if left, err := j.Load(); left.Peers != nil || err != nil {
		t.Errorf("the journal still says %v, %v", left, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	n := labtest.Network(t, lab.Options{})
	for name, want := range map[string]error{
		"nosuch0": ErrNoDevice,
		"lo":      ErrNotWireGuard,
		strings.Replace(n.Here.Name, "wg", "veth", 1): ErrNotWireGuard,
	} {
		d, err := Open(name)
		if !errors.Is(err, want) || !strings.HasPrefix(err.Error(), name+": ") {
			t.Errorf("%s: error %v, want %v", name, err, want)
		}
		if err == nil {
			d.Close()
		}
	}
}

// TestDeadUserspace has a TUN device whose wireguard-go is dead, but for the socket that it has left.
func TestDeadUserspace(t *testing.T) {
	const name = "dead0"
	labtest.TUN(t, name)
	if err := os.MkdirAll(filepath.Dir(userspaceSocket(name)), 0o755); err != nil {
		t.Fatal(err)
	}
	socket, err := net.Listen("unix", userspaceSocket(name))
	if err != nil {
		t.Fatal(err)
	}
	socket.(*net.UnixListener).SetUnlinkOnClose(false)
	t.Cleanup(func() {
		if err := os.Remove(userspaceSocket(name)); err != nil {
			t.Error(err)
		}
	})
	if err := socket.Close(); err != nil {
		t.Fatal(err)
	}
	if d, err := Open(name); !errors.Is(err, ErrNotWireGuard) {
		t.Errorf("error %v, want ErrNotWireGuard", err)
		if err == nil {
			d.Close()
		}
	}
}

// TestInterfaceMadeAnew has the interface deleted and another made of its name, as wg-quick down and up do. The one that
// was opened is gone, and what the other has must stay as it is.
func TestInterfaceMadeAnew(t *testing.T) {
	n, other := labtest.Network(t, lab.Options{Keepalive: every}), labtest.Network(t, lab.Options{Keepalive: every})
	d := open(t, n.Here.Name)
	expectGone := func(when string) {
		t.Helper()
		_, err := d.Peers()
		if err := errors.Join(err, d.Configure(Change{Key: lazy.Key(other.There.PublicKey)})); strings.Count(err.Error(), ErrNoDevice.Error()) != 2 {
			t.Errorf("%s: errors %v, want ErrNoDevice twice", when, err)
		}
	}
	key := lazy.Key(n.There.PublicKey)
	for _, name := range [][2]string{{n.Here.Name, "renamed0"}, {"renamed0", n.Here.Name}} {
		labtest.Rename(t, name[0], name[1])
		if err := d.Configure(Change{Key: key, Keepalive: time.Minute}); err != nil {
			t.Errorf("now %s: %v", name[1], err)
		}
		if peers, err := d.Peers(); err != nil || len(peers) != 1 || peers[0].Keepalive != time.Minute {
			t.Errorf("now %s: %v, %v", name[1], peers, err)
		}
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	expectGone("deleted")

	moveDevice(t, other, n.Here.Name)
	expectGone("made anew")
	peers, err := open(t, n.Here.Name).Peers()
	if err != nil {
		t.Fatal(err)
	}
	if len(peers) != 1 || peers[0].Key != lazy.Key(other.There.PublicKey) || peers[0].Keepalive != every {
		t.Errorf("peers %+v of the new one, want one with keepalive %s", peers, every)
	}
}

// moveDevice gives the WireGuard device of Here another name for the rest of the test.
func moveDevice(t *testing.T, n *lab.Network, name string) {
	t.Helper()
	move := func(from, to string) {
		t.Helper()
		labtest.Rename(t, from, to)
		if n.Kind() == lab.WireGuardGo {
			if err := os.Rename(userspaceSocket(from), userspaceSocket(to)); err != nil {
				t.Fatal(err)
			}
		}
	}
	move(n.Here.Name, name)
	t.Cleanup(func() { move(name, n.Here.Name) })
}

// userspaceSocket is where a wireguard-go is configured.
func userspaceSocket(name string) string { return "/var/run/wireguard/" + name + ".sock" }
