// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// Host is one side of a [Network]. Its methods can be used by several goroutines at once.
type Host struct {
	Name       string // of the WireGuard interface, at most 10 bytes
	Cable      string // name of the link that carries the tunnel's packets
	PrivateKey wgtypes.Key
	PublicKey  wgtypes.Key

	IPv4, IPv6 netip.Addr // inside the tunnel: the overlay

	UnderlayIPv4, UnderlayIPv6 netip.Addr     // on the cable
	Endpoint                   netip.AddrPort // UnderlayIPv4 and the port that WireGuard listens on

	netns   *namespace
	control *wgctrl.Client
	remove  func() error // the WireGuard interface; nil: there is none
}

// settle makes the host side 1 or 2 of the network of that number.
func (h *Host) settle(number, side int) (err error) {
	if h.PrivateKey, err = wgtypes.GeneratePrivateKey(); err != nil {
		return err
	}
	h.PublicKey = h.PrivateKey.PublicKey()
	h.Name = fmt.Sprintf("wg%d%c", number, sideLetter(side))
	h.Cable = cableName(number, side)
	h.IPv4 = netip.MustParseAddr(fmt.Sprintf("10.7.%d.%d", number, side))
	h.IPv6 = netip.MustParseAddr(fmt.Sprintf("fd07:%d::%d", number, side))
	h.UnderlayIPv4 = netip.MustParseAddr(fmt.Sprintf("198.18.%d.%d", number, side))
	h.UnderlayIPv6 = netip.MustParseAddr(fmt.Sprintf("2001:db8:%d::%d", number, side))
	h.Endpoint = netip.AddrPortFrom(h.UnderlayIPv4, uint16(firstPort+number))
	return nil
}

func cableName(number, side int) string { return fmt.Sprintf("veth%d%c", number, sideLetter(side)) }

func sideLetter(side int) rune { return rune('a' + side - 1) }

// Do calls fn on this goroutine with its thread in the host's network namespace. What fn opens stays there for good; the
// goroutines it starts are not there. Do can be nested.
//
// A socket lands in the namespace of the thread that makes it, and package net makes it on the caller's as long as there is no
// name to resolve: give it literal addresses.
func (h *Host) Do(fn func() error) error { return h.netns.do(fn) }

// Configure changes the host's WireGuard interface, as [wgctrl.Client.ConfigureDevice] does.
func (h *Host) Configure(cfg wgtypes.Config) error {
	if err := h.control.ConfigureDevice(h.Name, cfg); err != nil {
		return fmt.Errorf("configure %s: %w", h.Name, err)
	}
	return nil
}

// Device reads the state of the host's WireGuard interface.
func (h *Host) Device() (*wgtypes.Device, error) {
	device, err := h.control.Device(h.Name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", h.Name, err)
	}
	return device, nil
}

// ErrNoPeer says that the WireGuard interface has no peer of that key.
var ErrNoPeer = errors.New("no such peer")

// LastHandshake is when the host last completed a handshake with a peer, or the zero time if it never did. The error is
// [ErrNoPeer] for a peer that the host does not have.
func (h *Host) LastHandshake(peer wgtypes.Key) (time.Time, error) {
	p, err := h.peer(peer)
	if err != nil {
		return time.Time{}, err
	}
	return p.LastHandshakeTime, nil
}

func (h *Host) peer(key wgtypes.Key) (*wgtypes.Peer, error) {
	device, err := h.Device()
	if err != nil {
		return nil, err
	}
	for i := range device.Peers {
		if device.Peers[i].PublicKey == key {
			return &device.Peers[i], nil
		}
	}
	return nil, fmt.Errorf("%s: %w: %s", h.Name, ErrNoPeer, key)
}

// forget removes the peer and adds it as it was, but without its sessions.
func (h *Host) forget(peer wgtypes.Key) error {
	p, err := h.peer(peer)
	if err != nil {
		return err
	}
	return h.Configure(wgtypes.Config{Peers: []wgtypes.PeerConfig{
		{PublicKey: peer, Remove: true},
		{
			PublicKey:                   peer,
			PresharedKey:                &p.PresharedKey,
			Endpoint:                    p.Endpoint,
			PersistentKeepaliveInterval: &p.PersistentKeepaliveInterval,
			AllowedIPs:                  p.AllowedIPs,
		},
	}})
}

// plugIn brings up the host's end of the cable.
func (h *Host) plugIn() error {
	return h.Do(func() error {
		if err := linkUp("lo"); err != nil {
			return err
		}
		return linkUp(h.Cable, netip.PrefixFrom(h.UnderlayIPv4, 24), netip.PrefixFrom(h.UnderlayIPv6, 64))
	})
}

// bringUp brings up the WireGuard interface, on which the kernel must not put a link-local address: it would send router
// solicitations into the tunnel. Kernel WireGuard sees to that itself, wireguard-go cannot.
func (h *Host) bringUp() error {
	return h.Do(func() error {
		link, err := find(h.Name)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetIP6AddrGenMode(link, nl.IN6_ADDR_GEN_MODE_NONE); err != nil {
			return fmt.Errorf("keep link-local addresses off %s: %w", h.Name, err)
		}
		return linkUp(h.Name, single(h.IPv4), single(h.IPv6))
	})
}

func (h *Host) openControl() error {
	return h.Do(func() (err error) {
		h.control, err = wgctrl.New()
		return err
	})
}

// asPeer is how the other host sees this one.
func (h *Host) asPeer() wgtypes.PeerConfig {
	return wgtypes.PeerConfig{
		PublicKey:  h.PublicKey,
		Endpoint:   net.UDPAddrFromAddrPort(h.Endpoint),
		AllowedIPs: []net.IPNet{*ipNet(single(h.IPv4)), *ipNet(single(h.IPv6))},
	}
}

// addKernel fails with EOPNOTSUPP if the kernel has no WireGuard.
func (h *Host) addKernel(early func()) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = h.Name
	if err := h.Do(func() error { return netlink.LinkAdd(&netlink.Wireguard{LinkAttrs: attrs}) }); err != nil {
		return fmt.Errorf("add WireGuard interface %s: %w", h.Name, err)
	}
	h.remove = func() error { return h.Do(func() error { return linkDel(h.Name) }) }
	if early != nil {
		early()
	}
	return h.bringUp()
}

func (h *Host) addUserspace(early func()) error {
	u, err := newUserspace(h, early)
	if err != nil {
		return fmt.Errorf("add WireGuard interface %s: %w", h.Name, err)
	}
	h.remove = u.Close
	return nil
}

func (h *Host) removeWireGuard() error {
	if h.remove == nil {
		return nil
	}
	defer func() { h.remove = nil }()
	return h.remove()
}

// reach makes the peer the host's only one, and routes its allowed IPs.
func (h *Host) reach(peer wgtypes.PeerConfig) error {
	if err := h.meet(peer); err != nil {
		return err
	}
	return h.Do(func() error { return routeAdd(h.Name, peer.AllowedIPs) })
}

// meet makes these the host's only peers.
func (h *Host) meet(peers ...wgtypes.PeerConfig) error {
	return h.Configure(wgtypes.Config{
		PrivateKey:   &h.PrivateKey,
		ListenPort:   new(int(h.Endpoint.Port())),
		ReplacePeers: true,
		Peers:        peers,
	})
}
