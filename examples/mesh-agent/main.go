// SPDX-License-Identifier: Apache-2.0

// Command mesh-agent shows how a mesh VPN embeds lazybpf: see README.md.
package main

import (
	"bufio"
	"cmp"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/pkg/detect"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

func main() {
	threshold := flag.Duration("threshold", lazy.DefaultThreshold, "how long a peer must be silent to be put to sleep")
	var excluded []lazy.Key
	flag.Func("exclude", "`KEY` of a peer that must not sleep; repeatable", func(s string) error {
		key, err := lazy.ParseKey(s)
		excluded = append(excluded, key)
		return err
	})
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: mesh-agent [-threshold D] [-exclude KEY]... INTERFACE DIRECTORY")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, &connector{iface: flag.Arg(0), directory: flag.Arg(1)}, *threshold, excluded); err != nil {
		fmt.Fprintln(os.Stderr, "mesh-agent:", err)
		os.Exit(1)
	}
}

// run manages peers until ctx is done. WireGuard then goes on by itself, with
// the endpoints and keepalives of that moment.
func run(ctx context.Context, c *connector, threshold time.Duration, excluded []lazy.Key) (err error) {
	if c.wireguard, err = wgctrl.New(); err != nil {
		return err
	}
	defer c.wireguard.Close()
	detector, err := detect.New(detect.Options{Interface: c.iface})
	if err != nil {
		return err
	}
	defer detector.Close() // after the manager: what is still held is sent
	c.manager, err = lazy.New(lazy.Options{
		Detector:            detector,
		Connector:           c,
		InactivityThreshold: threshold,
		Wake:                lazy.WakeHold, // packets wait for Open, which finds out where to send them
	})
	if err != nil {
		return err
	}
	defer c.manager.Close()
	changes, err := c.manager.Subscribe()
	if err != nil {
		return err
	}
	go logChanges(changes)
	if err := c.addPeers(excluded); err != nil {
		return err
	}
	go listen(c.manager)
	slog.Info("started", "interface", c.iface, "attach", detector.Attached())
	<-ctx.Done()
	return nil
}

// connector is the lazy.Connector: how this VPN reaches the peers of iface.
type connector struct {
	iface, directory string
	wireguard        *wgctrl.Client
	manager          *lazy.Manager
}

// Open makes a peer reachable. What is held of it is sent when Open returns.
func (c *connector) Open(ctx context.Context, peer lazy.Key, wake lazy.Wake) (err error) {
	var endpoint *net.UDPAddr              // nil leaves the one that WireGuard has
	if wake.Reason != lazy.ReasonIngress { // else it has just learned it from the peer
		if endpoint, err = c.negotiate(ctx, peer); err != nil {
			return err
		}
		if lazy.Answered(ctx) {
			endpoint = nil // it has learned it while we were negotiating
		}
	}
	return c.configure(peer, endpoint, 25*time.Second)
}

// Close takes a peer's keepalive away. WireGuard keeps all else of it.
func (c *connector) Close(_ context.Context, peer lazy.Key) error { return c.configure(peer, nil, 0) }

func (c *connector) configure(peer lazy.Key, endpoint *net.UDPAddr, keepalive time.Duration) error {
	return c.wireguard.ConfigureDevice(c.iface, wgtypes.Config{Peers: []wgtypes.PeerConfig{{
		PublicKey:                   wgtypes.Key(peer),
		UpdateOnly:                  true, // a peer that somebody has removed must not come back
		Endpoint:                    endpoint,
		PersistentKeepaliveInterval: &keepalive,
	}}})
}

// negotiate stands in for signalling and ICE: it takes as long, and asks a file.
func (c *connector) negotiate(ctx context.Context, peer lazy.Key) (*net.UDPAddr, error) {
	select {
	case <-time.After(300 * time.Millisecond):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	entry, err := c.lookUp(peer)
	if err != nil {
		return nil, err
	}
	return net.ResolveUDPAddr("udp", entry[0])
}

// lookUp finds a peer in the directory, a file of lines KEY ENDPOINT [GROUP]...,
// and returns what stands behind the key.
func (c *connector) lookUp(peer lazy.Key) ([]string, error) {
	content, err := os.ReadFile(c.directory)
	for line := range strings.Lines(string(content)) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == peer.String() {
			return words[1:], nil
		}
	}
	return nil, cmp.Or(err, fmt.Errorf("%s is not in %s", peer, c.directory))
}

// addPeers has those peers of the interface managed that are in the directory.
func (c *connector) addPeers(excluded []lazy.Key) error {
	device, err := c.wireguard.Device(c.iface)
	if err != nil {
		return fmt.Errorf("read %s: %w", c.iface, err)
	}
	for _, p := range device.Peers {
		peer := lazy.Peer{Key: lazy.Key(p.PublicKey)}
		entry, err := c.lookUp(peer.Key)
		if err != nil {
			slog.Warn("not managed", "peer", peer.Key.Short(), "error", err)
			continue
		}
		peer.Groups = entry[1:] // the routers of one network, say
		for _, ip := range p.AllowedIPs {
			peer.AllowedIPs = append(peer.AllowedIPs, netip.MustParsePrefix(ip.String()))
		}
		if time.Since(p.LastHandshakeTime) < 180*time.Second { // REJECT_AFTER_TIME: it has a session
			err = c.manager.AddActivePeers(peer)
		} else if err = c.Close(context.Background(), peer.Key); err == nil { // the manager expects that
			_, err = c.manager.AddPeer(peer)
		}
		if err != nil {
			return err
		}
	}
	_, err = c.manager.SetExcluded(excluded)
	return err
}

// listen reads from standard input what a mesh VPN hears from its signalling
// server, and of its connections: remote-wakes KEY.
func listen(manager *lazy.Manager) {
	acts := map[string]func(lazy.Key) error{
		"remote-wakes":  manager.ActivatePeer,
		"remote-sleeps": manager.DeactivatePeer,
		"disconnected":  manager.ReportDisconnected,
		"connected":     manager.ReportConnected,
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		word, name, _ := strings.Cut(lines.Text(), " ")
		act, known := acts[word]
		key, err := lazy.ParseKey(name)
		if known && err == nil {
			err = act(key)
		}
		slog.Info("heard", "line", lines.Text(), "known", known, "error", err)
	}
}

func logChanges(changes *lazy.Subscription) {
	for c := range changes.All(context.Background()) {
		slog.Info(c.To.String(), "peer", c.Key.Short(), "reason", c.Wake.Reason, "took", c.Wake.Took, "error", c.Err)
	}
}
