// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/pkg/control"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// TestMain runs the tests in a network namespace of their own.
func TestMain(m *testing.M) { labtest.Main(m) }

// every is the keepalive that peers of the tests have, unless they say otherwise.
const every = 25 * time.Second

// far is a peer that nobody answers for.
var far = keyOf("FarA")

// keyOf makes a public key that begins with four characters of base64.
func keyOf(begin string) lazy.Key {
	key, err := lazy.ParseKey(begin + "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
	if err != nil {
		panic(err)
	}
	return key
}

// there is the peer that Here has.
func there(n *lab.Network) lazy.Key { return lazy.Key(n.There.PublicKey) }

// set changes a peer of Here as somebody else would, and adds it if need be.
func set(t *testing.T, n *lab.Network, key lazy.Key, p wgtypes.PeerConfig) {
	t.Helper()
	p.PublicKey = wgtypes.Key(key)
	if err := n.Here.Configure(wgtypes.Config{Peers: []wgtypes.PeerConfig{p}}); err != nil {
		t.Fatal(err)
	}
}

// add adds a peer with a keepalive to Here.
func add(t *testing.T, n *lab.Network, key lazy.Key, prefixes ...string) {
	t.Helper()
	set(t, n, key, peerOf(t, key, prefixes...))
}

// peerOf is a peer with a keepalive.
func peerOf(t *testing.T, key lazy.Key, prefixes ...string) wgtypes.PeerConfig {
	t.Helper()
	return wgtypes.PeerConfig{
		PublicKey: wgtypes.Key(key), PersistentKeepaliveInterval: new(every), AllowedIPs: ipNets(t, prefixes...),
	}
}

func ipNets(t *testing.T, prefixes ...string) []net.IPNet {
	t.Helper()
	var all []net.IPNet
	for _, p := range prefixes {
		_, n, err := net.ParseCIDR(p)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, *n)
	}
	return all
}

// keepaliveOf is what Here has for a peer.
func keepaliveOf(t *testing.T, n *lab.Network, key lazy.Key) time.Duration {
	t.Helper()
	device, err := n.Here.Device()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range device.Peers {
		if p.PublicKey == wgtypes.Key(key) {
			return p.PersistentKeepaliveInterval
		}
	}
	t.Fatalf("%s has no peer %s", n.Here.Name, key)
	return 0
}

// expectKeepalive waits until Here has this keepalive for a peer.
func expectKeepalive(t *testing.T, n *lab.Network, key lazy.Key, want time.Duration) {
	t.Helper()
	soon(t, "keepalive "+want.String(), func() bool { return keepaliveOf(t, n, key) == want })
}

// patience is how long a test waits for what should happen soon. No test passes by it.
const patience = 30 * time.Second

// soon waits until something is true.
func soon(t *testing.T, what string, isTrue func() bool) {
	t.Helper()
	for begin := time.Now(); !isTrue(); time.Sleep(time.Millisecond) {
		if time.Since(begin) > patience {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// ping sends one packet from Here, which must be answered.
func ping(t *testing.T, n *lab.Network, to netip.Addr) {
	t.Helper()
	if _, err := n.Here.Ping(t.Context(), to); err != nil {
		t.Fatal(err)
	}
}

// optionsFor are those of a daemon for Here, whose control socket is in a folder of its own.
func optionsFor(t *testing.T, n *lab.Network) Options {
	log := logrus.New()
	log.SetOutput(t.Output())
	return Options{
		Interface: n.Here.Name, Control: filepath.Join(t.TempDir(), "wg0.sock"), Log: log,
		EvictAfter: time.Hour, // so that who a test evicts stays away
	}
}

// manage starts a daemon for the length of a test, which does only what the test has it do.
func manage(t *testing.T, options Options) *Daemon {
	t.Helper()
	d, err := New(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, d) })
	return d
}

// stop ends a daemon. Ending it again does nothing.
func stop(t *testing.T, d *Daemon) {
	t.Helper()
	if d.links == nil {
		return
	}
	if err := d.stop(); err != nil {
		t.Error(err)
	}
	d.links = nil
}

// sessionOf is what a daemon has of its interface, which is there.
func sessionOf(t *testing.T, d *Daemon) *session {
	t.Helper()
	s, err := backend{d}.current()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// reread does what the daemon does every few seconds.
func reread(t *testing.T, d *Daemon) {
	t.Helper()
	if err := sessionOf(t, d).read(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// whoIs is the peer that a name means.
func whoIs(t *testing.T, d *Daemon, name string) (lazy.Key, error) {
	t.Helper()
	return d.policy.Load().resolve(sessionOf(t, d).peersNow(), name)
}

// statusOf is a peer's part of the status, or nil.
func statusOf(t *testing.T, d *Daemon, key lazy.Key) *control.Peer {
	t.Helper()
	status, err := backend{d}.Status(t.Context(), control.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range status.Peers {
		if status.Peers[i].PublicKey == key.String() {
			return &status.Peers[i]
		}
	}
	return nil
}

// stateOf is a peer's state, or empty.
func stateOf(t *testing.T, d *Daemon, key lazy.Key) string {
	t.Helper()
	if p := statusOf(t, d, key); p != nil {
		return p.State
	}
	return ""
}

// expectState waits until a peer is in a state.
func expectState(t *testing.T, d *Daemon, key lazy.Key, want string) {
	t.Helper()
	soon(t, key.Short()+" is "+want, func() bool { return stateOf(t, d, key) == want })
}
