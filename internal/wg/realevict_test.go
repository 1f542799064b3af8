// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"context"
	"net"
	"net/netip"
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

// settings are what somebody has configured of a peer, as wgctrl reads it.
func settings(p wgtypes.Peer) string {
	ips := make([]string, len(p.AllowedIPs))
	for i, ip := range p.AllowedIPs {
		ips[i] = ip.String()
	}
	slices.Sort(ips)
	return strings.Join(append(ips, p.PresharedKey.String(), p.Endpoint.String(), p.PersistentKeepaliveInterval.String()), " ")
}

// shutEvictor is a connector at work on Here, which has closed There.
func shutEvictor(t *testing.T, n *lab.Network, find resolve) (*Connector, *EvictedFile) {
	t.Helper()
	c := NewConnector(open(t, n.Here.Name), find)
	file := NewEvictedFile(filepath.Join(t.TempDir(), n.Here.Name+".evicted"))
	c.EvictTo(file)
	peers, err := c.device.Peers()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range peers {
		c.Adopt(p, every, true)
		if err := c.Close(t.Context(), p.Key); err != nil {
			t.Fatal(err)
		}
	}
	return c, file
}

// TestRealEvict takes a peer off a real device that has all that a peer can have, and puts it back in each way that there is.
func TestRealEvict(t *testing.T) {
	elsewhere := netip.MustParseAddrPort("192.0.2.9:1")
	for name, test := range map[string]struct {
		find    resolve
		putBack func(*Connector, lazy.Key, *EvictedFile) error
	}{
		"open": {nil, func(c *Connector, key lazy.Key, _ *EvictedFile) error { return c.Open(t.Context(), key, egress) }},
		"open elsewhere": {
			func(context.Context, lazy.Key) (netip.AddrPort, error) { return elsewhere, nil },
			func(c *Connector, key lazy.Key, _ *EvictedFile) error { return c.Open(t.Context(), key, egress) },
		},
		"give back": {nil, func(c *Connector, _ lazy.Key, _ *EvictedFile) error { return c.GiveBack() }},
		"restore": {nil, func(c *Connector, _ lazy.Key, file *EvictedFile) error {
			_, err := load(t, file.path, c.device).PutBack(c.device, true)
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			n := labtest.Network(t, lab.Options{ExtraAllowedIPs: []netip.Prefix{
				netip.MustParsePrefix("10.9.0.0/24"), netip.MustParsePrefix("fd09::/64"), netip.MustParsePrefix("0.0.0.0/0"),
			}})
			preshared, err := wgtypes.GenerateKey()
			if err != nil {
				t.Fatal(err)
			}
			configure(t, n, wgtypes.PeerConfig{UpdateOnly: true, PresharedKey: &preshared})
			c, file := shutEvictor(t, n, test.find)
			want := theirs(t, n)
			want.PersistentKeepaliveInterval = every
			if test.find != nil {
				want.Endpoint = net.UDPAddrFromAddrPort(elsewhere)
			}
			key := lazy.Key(n.There.PublicKey)

			evict(t, c, key)
			if device, err := n.Here.Device(); err != nil || len(device.Peers) > 0 {
				t.Fatalf("on the device: %+v, %v", device.Peers, err)
			}
			leaves(t, filepath.Dir(file.path), n.Here.Name+".evicted")
			if err := test.putBack(c, key, file); err != nil {
				t.Fatal(err)
			}
			if got := settings(theirs(t, n)); got != settings(want) {
				t.Errorf("put back as\n%s, want\n%s", got, settings(want))
			}
			leaves(t, filepath.Dir(file.path))
		})
	}
}

// TestRealSession has a peer with a session, which must not be evicted before that is over.
func TestRealSession(t *testing.T) {
	n := labtest.Network(t, lab.Options{})
	if _, err := n.Here.Ping(t.Context(), n.There.IPv4); err != nil {
		t.Fatal(err)
	}
	c, file := shutEvictor(t, n, nil)
	before := theirs(t, n)
	again, err := c.Evict(t.Context(), lazy.Key(n.There.PublicKey))
	if want := before.LastHandshakeTime.Add(lazy.MinEvictAfter); err != nil || !again.Equal(want) {
		t.Errorf("again %v, %v; want %v", again, err, want)
	}
	if after := theirs(t, n); !reflect.DeepEqual(after.AllowedIPs, before.AllowedIPs) || after.LastHandshakeTime != before.LastHandshakeTime {
		t.Errorf("before\n%+v, after\n%+v", before, after)
	}
	leaves(t, filepath.Dir(file.path))
}

// TestRealReturn has somebody put an evicted peer back as wg syncconf would.
func TestRealReturn(t *testing.T) {
	n := labtest.Network(t, lab.Options{})
	c, _ := shutEvictor(t, n, nil)
	key := lazy.Key(n.There.PublicKey)
	evict(t, c, key)
	if reading := look(t, c); len(reading.Peers) != 1 || len(reading.Returned) > 0 {
		t.Errorf("reading %+v", reading)
	}
	configure(t, n, wgtypes.PeerConfig{ReplaceAllowedIPs: true, PersistentKeepaliveInterval: new(time.Minute)})
	if reading := look(t, c); !slices.Equal(reading.Returned, []lazy.Key{key}) || len(reading.Peers[0].AllowedIPs) > 0 || c.Evicted(key) {
		t.Errorf("reading %+v", reading)
	}
}
