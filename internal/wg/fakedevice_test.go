// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// fakeDevice is a device that has whole peers, and changes them as WireGuard does.
type fakeDevice struct {
	// Called before the device is read or changed, if there is one; an error refuses it.
	beforeRead   func() error
	beforeChange func([]wgtypes.PeerConfig) error
	// Called for each peer that is changed; an error ends the change with it.
	beforePeer func(wgtypes.PeerConfig) error

	mu    sync.Mutex // guards what follows
	peers map[wgtypes.Key]wgtypes.Peer
	reads int
}

func newFakeDevice(peers ...wgtypes.Peer) *fakeDevice {
	d := &fakeDevice{peers: make(map[wgtypes.Key]wgtypes.Peer)}
	for _, p := range peers {
		d.peers[p.PublicKey] = p
	}
	return d
}

func (d *fakeDevice) client() client { return fakeClient{device: d.read, configure: d.configure} }

func (d *fakeDevice) read(string) (*wgtypes.Device, error) {
	if d.beforeRead != nil {
		if err := d.beforeRead(); err != nil {
			return nil, err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reads++
	return &wgtypes.Device{Peers: slices.Collect(maps.Values(d.peers))}, nil
}

func (d *fakeDevice) configure(_ string, config wgtypes.Config) error {
	if d.beforeChange != nil {
		if err := d.beforeChange(config.Peers); err != nil {
			return err
		}
	}
	for _, c := range config.Peers {
		if d.beforePeer != nil {
			if err := d.beforePeer(c); err != nil {
				return err
			}
		}
		d.change(c)
	}
	return nil
}

func (d *fakeDevice) change(c wgtypes.PeerConfig) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, has := d.peers[c.PublicKey]
	if c.Remove {
		delete(d.peers, c.PublicKey)
		return
	}
	if !has && c.UpdateOnly {
		return
	}
	p.PublicKey = c.PublicKey
	if c.PresharedKey != nil {
		p.PresharedKey = *c.PresharedKey
	}
	if c.Endpoint != nil {
		p.Endpoint = c.Endpoint
	}
	if c.PersistentKeepaliveInterval != nil {
		p.PersistentKeepaliveInterval = *c.PersistentKeepaliveInterval
	}
	if c.ReplaceAllowedIPs {
		p.AllowedIPs = nil
	}
	taken := func(ip net.IPNet) bool {
		return slices.ContainsFunc(c.AllowedIPs, func(other net.IPNet) bool { return ip.String() == other.String() })
	}
	for key, other := range d.peers {
		other.AllowedIPs = slices.DeleteFunc(slices.Clone(other.AllowedIPs), taken)
		d.peers[key] = other
	}
	p.AllowedIPs = append(slices.DeleteFunc(slices.Clone(p.AllowedIPs), taken), c.AllowedIPs...)
	d.peers[c.PublicKey] = p
}

// get is a peer of the device's.
func (d *fakeDevice) get(key lazy.Key) (p wgtypes.Peer, has bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, has = d.peers[wgtypes.Key(key)]
	return p, has
}

func (d *fakeDevice) has(key lazy.Key) bool {
	_, has := d.get(key)
	return has
}

// secretOf is the preshared key of the n-th peer.
func secretOf(n byte) wgtypes.Key { return wgtypes.Key{'s', 'e', 'c', 'r', 'e', 't', n} }

// wholePeer is the n-th peer of a test, which has all that a peer can have.
func wholePeer(n byte) wgtypes.Peer {
	return wgtypes.Peer{
		PublicKey:                   wgtypes.Key(keyOf(n)),
		PresharedKey:                secretOf(n),
		Endpoint:                    &net.UDPAddr{IP: net.IP{192, 0, 2, n}, Port: 51820},
		PersistentKeepaliveInterval: every,
		AllowedIPs:                  ipNets(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, n, 0}), 24), netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, n}), 64)),
	}
}

func ipNets(prefixes ...netip.Prefix) (all []net.IPNet) {
	for _, p := range prefixes {
		all = append(all, net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())})
	}
	return all
}

// evictor makes a connector that has adopted and closed all peers of a device, and the file that it evicts to.
func evictor(t *testing.T, d *fakeDevice) (*Connector, *EvictedFile) {
	t.Helper()
	c := NewConnector(newDevice(d.client()), nil)
	file := NewEvictedFile(filepath.Join(t.TempDir(), "wg0.evicted"))
	c.EvictTo(file)
	for _, p := range d.peers {
		c.Adopt(peerOf(&p), p.PersistentKeepaliveInterval, true)
		if err := c.Close(t.Context(), lazy.Key(p.PublicKey)); err != nil {
			t.Fatal(err)
		}
	}
	return c, file
}

// evict evicts peers that must go.
func evict(t *testing.T, c *Connector, peers ...lazy.Key) {
	t.Helper()
	for _, key := range peers {
		if again, err := c.Evict(t.Context(), key); err != nil || !again.IsZero() || !c.Evicted(key) {
			t.Fatalf("peer %d: again %v, error %v, evicted %v", key[0], again, err, c.Evicted(key))
		}
	}
}

// expectWhole fails the test unless the device has the n-th peer as it was.
func expectWhole(t *testing.T, d *fakeDevice, n byte) {
	t.Helper()
	expectPeer(t, d, wholePeer(n))
}

func expectPeer(t *testing.T, d *fakeDevice, want wgtypes.Peer) {
	t.Helper()
	got, has := d.get(lazy.Key(want.PublicKey))
	if !has {
		t.Errorf("peer %d is not on the device", want.PublicKey[0])
	}
	same := got.PresharedKey == want.PresharedKey && got.Endpoint.String() == want.Endpoint.String() &&
		got.PersistentKeepaliveInterval == want.PersistentKeepaliveInterval &&
		slices.EqualFunc(got.AllowedIPs, want.AllowedIPs, func(a, b net.IPNet) bool { return a.String() == b.String() })
	if !same {
		t.Errorf("on the device is\n%+v, want\n%+v", got, want)
	}
}
