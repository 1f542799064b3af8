// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/internal/config"
	"github.com/lazybpf/lazybpf/internal/daemon"
	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/pkg/control"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// What wg, wg-quick and their like do to an interface while a daemon manages it, by the calls that they make.

// logbook is what a daemon has logged that an administrator sees, but for single peers that wake and sleep.
type logbook struct{ hook *logtest.Hook }

func logOf(options daemon.Options) logbook { return logbook{logtest.NewLocal(options.Log)} }

func (j logbook) lines() (lines []string) {
	for _, e := range j.hook.AllEntries() {
		if e.Level > logrus.InfoLevel || e.Data["peer"] != nil {
			continue
		}
		line := e.Message
		for _, name := range slices.Sorted(maps.Keys(e.Data)) {
			if name != "interface" && name != "attach" {
				line += fmt.Sprintf(" %s=%v", name, e.Data[name])
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// expect fails the test unless these lines have been logged since it began, or soon are, and no others.
func (j logbook) expect(t *testing.T, want ...string) {
	t.Helper()
	await(t, fmt.Sprintf("%d lines of log", len(want)), func() bool { return len(j.lines()) >= len(want) })
	if got := j.lines(); !slices.Equal(got, want) {
		t.Errorf("logged %q,\nwant %q", got, want)
	}
}

const (
	isGone  = "interface is gone: waiting until it is there again"
	isAgain = "interface is there again"
)

// section is a [Peer] of a configuration file.
func section(key wgtypes.Key, endpoint netip.AddrPort, keepalive time.Duration, prefixes ...string) wgtypes.PeerConfig {
	p := wgtypes.PeerConfig{
		PublicKey: key, Endpoint: net.UDPAddrFromAddrPort(endpoint), PersistentKeepaliveInterval: &keepalive, ReplaceAllowedIPs: true,
	}
	for _, prefix := range prefixes {
		p.AllowedIPs = append(p.AllowedIPs, ipNet(prefix))
	}
	return p
}

// syncconf does what wg syncconf does with a file of these sections.
func syncconf(t *testing.T, h *lab.Host, sections ...wgtypes.PeerConfig) {
	t.Helper()
	device, err := h.Device()
	if err != nil {
		t.Fatal(err)
	}
	sections = slices.Clone(sections)
	for _, p := range device.Peers {
		if !slices.ContainsFunc(sections, func(s wgtypes.PeerConfig) bool { return s.PublicKey == p.PublicKey }) {
			sections = append(sections, wgtypes.PeerConfig{PublicKey: p.PublicKey, Remove: true})
		}
	}
	if err := h.Configure(wgtypes.Config{Peers: sections}); err != nil {
		t.Fatal(err)
	}
}

// has says whether the daemon knows a peer with these allowed IPs at an endpoint, in a state.
func (r *running) has(key wgtypes.Key, state string, endpoint netip.AddrPort, prefixes ...string) func() bool {
	return func() bool {
		p, found := r.find(key.String())
		return found && p.State == state && p.Endpoint == endpoint.String() && slices.Equal(p.AllowedIPs, prefixes)
	}
}

// TestSyncconf changes all that there is to change, first in a file of peers, and then peer by peer.
//
//	Here                                    There, and strangers, which do not exist
//	wg1a with There and three strangers     nobody answers at port 9, nor at 10
func TestSyncconf(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	there, stays, goes, comes := n.There.PublicKey, stranger(t), stranger(t), stranger(t)
	at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(n.There.UnderlayIPv4, port) }
	own := n.There.IPv4.String() + "/32"
	syncconf(t, n.Here, section(there, n.There.Endpoint, keepalive, own),
		section(stays, at(9), keepalive, "10.8.0.1/32", "10.8.0.2/32"), section(goes, at(9), 0, "10.8.0.3/32"))
	options := onHere(t, n)
	log := logOf(options)
	r := run(t, n, options)
	r.command(r.client.Wake)

	file := []wgtypes.PeerConfig{
		section(there, n.There.Endpoint, keepalive, own),
		section(stays, at(10), 20*time.Second, "10.8.0.2/32"),
		section(comes, at(10), keepalive, "10.8.0.1/32", "10.8.0.3/32"),
	}
	syncconf(t, n.Here, file...)
	noticed(t, "a file", func() bool {
		_, old := r.find(goes.String())
		return !old && r.has(stays, control.StateIdle, at(10), "10.8.0.2/32")() &&
			r.has(comes, control.StateIdle, at(10), "10.8.0.1/32", "10.8.0.3/32")()
	})
	for key, want := range map[wgtypes.Key]time.Duration{stays: 0, comes: 0, there: keepalive} {
		await(t, "keepalive is "+want.String(), func() bool { return keepaliveOf(t, n.Here, key) == want })
	}
	want := []string{"started peers=3", "keepalives were changed by somebody else: adopted peers=1", "peers of the interface changed added=1 changed=1 removed=1"}
	log.expect(t, want...)
	if p := r.there(); p.State != control.StateConnected {
		t.Errorf("There has not changed, and is %s", p.State)
	}

	// The same file once more gives sleeping peers their keepalives, and that is all.
	syncconf(t, n.Here, file...)
	want = append(want, "keepalives were changed by somebody else: adopted peers=2")
	log.expect(t, want...)
	for _, key := range []wgtypes.Key{stays, comes} {
		await(t, "keepalive is off", func() bool { return keepaliveOf(t, n.Here, key) == 0 })
	}

	// wg set of one after the other: an address moves to the peer that sleeps, a keepalive is turned off.
	configurePeer(t, n.Here, wgtypes.PeerConfig{PublicKey: stays, Endpoint: net.UDPAddrFromAddrPort(at(9))})
	configurePeer(t, n.Here, section(comes, at(10), 0, "10.8.0.2/32", "10.8.0.3/32"))
	noticed(t, "wg set", func() bool {
		return r.has(stays, control.StateIdle, at(9))() && r.has(comes, control.StateIdle, at(10), "10.8.0.2/32", "10.8.0.3/32")()
	})
	want = append(want, "peers of the interface changed added=0 changed=2 removed=0")
	log.expect(t, want...)
	for _, key := range []wgtypes.Key{stays, comes} {
		if _, err := r.client.Wake(soon(t), []string{key.String()}); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "what the file says is adopted", func() bool { return keepaliveOf(t, n.Here, stays) == 20*time.Second })

	r.stop()
	log.expect(t, append(want, "stopped")...)
	for key, want := range map[wgtypes.Key]time.Duration{there: keepalive, stays: 20 * time.Second, comes: keepalive} {
		if got := keepaliveOf(t, n.Here, key); got != want {
			t.Errorf("after the daemon the keepalive is %s, want %s", got, want)
		}
	}
}

// TestReresolve sets the endpoint of every sleeping peer again and again, as reresolve-dns.sh does of all that had no handshake
// for 135 s: it is taken notice of, and nobody wakes.
func TestReresolve(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{Keepalive: keepalive})
	keys := []wgtypes.Key{n.There.PublicKey, stranger(t), stranger(t)}
	for _, key := range keys[1:] {
		configurePeer(t, n.Here, wgtypes.PeerConfig{PublicKey: key, PersistentKeepaliveInterval: new(keepalive)})
	}
	options := onHere(t, n)
	log := logOf(options)
	r := run(t, n, options)
	for _, key := range keys {
		if _, err := r.client.Wake(soon(t), []string{key.String()}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.client.Sleep(soon(t), []string{key.String()}); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range keys {
		await(t, "keepalive is off", func() bool { return keepaliveOf(t, n.Here, key) == 0 })
	}
	// There had a handshake while it was awake.
	if err := n.ForgetSessions(); err != nil {
		t.Fatal(err)
	}
	wakes := make(map[wgtypes.Key]uint64)
	for _, key := range keys {
		p, _ := r.find(key.String())
		wakes[key] = p.Wakes
	}
	begun := len(log.lines())

	for port := range uint16(3) {
		at := netip.AddrPortFrom(n.There.UnderlayIPv4, 9+port)
		for _, key := range keys {
			configurePeer(t, n.Here, wgtypes.PeerConfig{PublicKey: key, UpdateOnly: true, Endpoint: net.UDPAddrFromAddrPort(at)})
		}
		noticed(t, "endpoints", func() bool {
			return !slices.ContainsFunc(keys, func(key wgtypes.Key) bool {
				p, _ := r.find(key.String())
				return p.Endpoint != at.String()
			})
		})
	}
	for _, key := range keys {
		p, _ := r.find(key.String())
		if p.State != control.StateIdle || p.Wakes != wakes[key] {
			t.Errorf("its endpoint was set: %+v", p)
		}
		d := deviceOf(t, n.Here, key)
		if d.PersistentKeepaliveInterval != 0 || !d.LastHandshakeTime.IsZero() {
			t.Errorf("keepalive %s, last handshake %s", d.PersistentKeepaliveInterval, d.LastHandshakeTime)
		}
	}
	if lines := log.lines(); len(lines) > begun {
		t.Errorf("logged %q", lines[begun:])
	}
	// At last it is right, and the next packet goes there.
	configurePeer(t, n.Here, wgtypes.PeerConfig{
		PublicKey: keys[0], UpdateOnly: true, Endpoint: net.UDPAddrFromAddrPort(n.There.Endpoint),
	})
	if _, err := n.Here.Ping(soon(t), n.There.IPv4); err != nil {
		t.Fatal(err)
	}
	awaitWakes(t, r, wakes[keys[0]]+1, "egress")
}

// TestInterfaceAgain takes the interface away and makes it again, while There sleeps, is connected, and is being opened with
// packets that wait: slowly, so that the daemon sees it gone, and at once.
func TestInterfaceAgain(t *testing.T) {
	for name, mode := range wakeModes {
		for pace, slow := range map[string]bool{"slowly": true, "at once": false} {
			t.Run(name+" "+pace, func(t *testing.T) {
				t.Parallel()
				n := labtest.Network(t, lab.Options{Keepalive: keepalive})
				options := onHere(t, n)
				options.Wake = mode
				log := logOf(options)
				r := run(t, n, options)
				want := []string{"started peers=1"}
				again := func() {
					t.Helper()
					before := r.status().Since
					if err := n.Down(); err != nil {
						t.Fatal(err)
					}
					if slow {
						noticed(t, "it is gone", func() bool { return r.status().Attach == "" })
					}
					if err := n.Up(nil); err != nil {
						t.Fatal(err)
					}
					noticed(t, "it is there again", func() bool {
						s := r.status()
						return s.Attach != "" && len(s.Peers) == 1 && s.Since.After(before)
					})
					want = append(want, isGone)
				}
				for range 2 {
					again()
					r.parkSoon()
					awaitKeepalive(t, n, 0)
					again()
					// The first packet of all, on this interface.
					r.parkSoon()
					forget(t, n, r)
					wakes := r.figures()
					if _, err := n.Here.Ping(soon(t), n.There.IPv6); err != nil {
						t.Fatal(err)
					}
					awaitWake(t, r, wakes, mode)
					awaitKeepalive(t, n, keepalive)
				}
				// It may be seen before it has its peers, and is in any case seen once.
				var got []string
				for _, line := range log.lines() {
					switch line {
					case isAgain + " peers=0", isAgain + " peers=1", "peers of the interface changed added=1 changed=0 removed=0":
					default:
						got = append(got, line)
					}
				}
				if !slices.Equal(got, want) {
					t.Errorf("logged %q,\nwant %q", log.lines(), want)
				}
				checkTraces(t, options, slices.Concat(hooksOf(r), inFiles, parking)...)
				r.stop()
				checkTraces(t, options)
				awaitKeepalive(t, n, keepalive)
			})
		}
	}
}

// parkSoon puts There to sleep, whether it is awake or not: it may have had a handshake since its interface is there.
func (r *running) parkSoon() {
	r.t.Helper()
	await(r.t, "There sleeps", func() bool {
		if _, err := r.client.Sleep(soon(r.t), []string{r.network.There.PublicKey.String()}); err != nil {
			r.t.Fatal(err)
		}
		return r.there().State == control.StateIdle
	})
}

// TestGoneWhileHeld has packets wait for a peer that is being looked for, when the interface goes. On the next one its first
// packet waits no longer than it takes.
func TestGoneWhileHeld(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	options := onHere(t, n)
	options.Policy.Peers = []config.Peer{{Name: "there", Key: lazy.Key(n.There.PublicKey), Hook: []string{"/bin/sleep", "1000"}}}
	quick := options
	quick.Policy.Peers = []config.Peer{{Name: "there", Key: lazy.Key(n.There.PublicKey), Hook: []string{"/bin/sleep", "0"}}}
	options.Read = func() (daemon.Options, error) { return quick, nil }
	r := run(t, n, options)
	sendTo(t, n, netip.AddrPortFrom(n.There.IPv4, 7).String())
	await(t, "a packet waits", func() bool { return r.figures().held == 1 && r.there().State == control.StateConnecting })
	if err := n.Down(); err != nil {
		t.Fatal(err)
	}
	noticed(t, "it is gone", func() bool { return r.status().Attach == "" })
	if err := r.client.Reload(soon(t)); err != nil {
		t.Fatal(err)
	}
	if err := n.Up(nil); err != nil {
		t.Fatal(err)
	}
	noticed(t, "it is there again", func() bool { return len(r.status().Peers) == 1 })
	if _, err := n.Here.Ping(soon(t), n.There.IPv4); err != nil {
		t.Fatal(err)
	}
	awaitWakes(t, r, 1, "egress")
	if f := r.figures(); f.held != 1 || f.replayed != 1 || f.dropped != 0 {
		t.Errorf("%+v", f)
	}
}
