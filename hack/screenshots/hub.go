// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"math"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/internal/lab"
)

const (
	spokes    = 5  // peers that are there
	strangers = 12 // peers that are not, and sleep
)

// hub is one WireGuard interface with several peers, made of several networks of two hosts: each There has the first
// network's Here as its peer.
//
//	          ┌── There of network 1
//	Here ─────┼── There of network 2
//	of 1      └── and so on
type hub struct {
	ctx      context.Context // ends with the hub
	cancel   context.CancelFunc
	networks []*lab.Network
	// Keys of strangers, and of one more that is no peer yet.
	strangers []wgtypes.Key
	talking   sync.WaitGroup
}

func newHub() (*hub, error) {
	h := new(hub)
	h.ctx, h.cancel = context.WithCancel(context.Background())
	for range spokes {
		n, err := lab.New(lab.Options{})
		if err != nil {
			return nil, errors.Join(err, h.close())
		}
		h.networks = append(h.networks, n)
		if err := h.join(n); err != nil {
			return nil, errors.Join(err, h.close())
		}
	}
	return h, h.addStrangers()
}

func (h *hub) here() *lab.Host { return h.networks[0].Here }

func (h *hub) iface() string { return h.here().Name }

func (h *hub) close() error {
	h.cancel()
	h.talking.Wait()
	var errs []error
	for _, n := range h.networks {
		errs = append(errs, n.Close())
	}
	return errors.Join(errs...)
}

// join makes the network's There a peer of the hub, and the hub one of it.
func (h *hub) join(n *lab.Network) error {
	here := h.here()
	if n.Here == here {
		return nil
	}
	spoke := peerConfig(n.There, n.There.Endpoint)
	spoke.PersistentKeepaliveInterval = new(25 * time.Second)
	return errors.Join(
		n.There.Configure(wgtypes.Config{Peers: []wgtypes.PeerConfig{
			peerConfig(here, netip.AddrPortFrom(n.Here.UnderlayIPv4, here.Endpoint.Port()))}}),
		n.There.Do(func() error { return route(network(here.IPv4, 32), n.There.Name) }),
		here.Configure(wgtypes.Config{Peers: []wgtypes.PeerConfig{spoke}}),
		route(network(n.There.IPv4, 32), here.Name),
	)
}

func peerConfig(host *lab.Host, endpoint netip.AddrPort) wgtypes.PeerConfig {
	return wgtypes.PeerConfig{
		PublicKey:  host.PublicKey,
		Endpoint:   net.UDPAddrFromAddrPort(endpoint),
		AllowedIPs: []net.IPNet{network(host.IPv4, 32), network(host.IPv6, 128)},
	}
}

// network is the one of this size that an address is in.
func network(addr netip.Addr, bits int) net.IPNet {
	mask := net.CIDRMask(bits, addr.BitLen())
	return net.IPNet{IP: net.IP(addr.AsSlice()).Mask(mask), Mask: mask}
}

func route(to net.IPNet, iface string) error {
	link, err := netlink.LinkByName(iface)
	if err != nil {
		return err
	}
	return netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: &to, Scope: netlink.SCOPE_LINK})
}

func (h *hub) addStrangers() error {
	var peers []wgtypes.PeerConfig
	for i := range strangers + 1 {
		key, err := wgtypes.GeneratePrivateKey()
		if err != nil {
			return err
		}
		h.strangers = append(h.strangers, key.PublicKey())
		peers = append(peers, wgtypes.PeerConfig{PublicKey: key.PublicKey(), AllowedIPs: []net.IPNet{network(stranger(i), 24)}})
	}
	return h.here().Configure(wgtypes.Config{Peers: peers[:strangers]})
}

// talk lets peers talk for a while, each in its own way.
func (h *hub) talk(total time.Duration) {
	ctx, cancel := context.WithTimeout(h.ctx, total)
	defer cancel()
	there := func(i int) *lab.Host { return h.networks[i].There }
	h.talking.Go(func() { h.stream(ctx, there(0), 10) })
	h.talking.Go(func() { ping(ctx, h.here(), there(1).IPv4, 700*time.Millisecond) })
	h.talking.Go(func() { // falls asleep
		soon, cancel := context.WithTimeout(ctx, total/4)
		defer cancel()
		ping(soon, h.here(), there(2).IPv4, 300*time.Millisecond)
	})
	h.talking.Go(func() { // is woken from outside
		if pause(ctx, total*3/4) {
			ping(ctx, there(3), h.here().IPv4, 200*time.Millisecond)
		}
	})
	h.talking.Wait()
}

func ping(ctx context.Context, from *lab.Host, to netip.Addr, every time.Duration) {
	repeat(ctx, every, func() { _, _ = from.Ping(ctx, to) })
}

// repeat does it at once, and then every so often.
func repeat(ctx context.Context, every time.Duration, do func()) {
	for more := true; more; more = pause(ctx, every) {
		do()
	}
}

// stream sends more and less, in waves, and gets all of it back: so many packets every 20 ms on average.
func (h *hub) stream(ctx context.Context, to *lab.Host, mean float64) {
	echo, err := to.ServeEcho()
	if err != nil {
		return
	}
	defer echo.Close()
	conn, err := h.here().DialUDP(echo.IPv4)
	if err != nil {
		return
	}
	defer conn.Close()
	for i := 0; pause(ctx, 20*time.Millisecond); i++ {
		packets := mean * (1 + 0.9*math.Sin(float64(i)/50))
		for range int(packets) {
			_, _ = conn.Write(make([]byte, 1200))
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
