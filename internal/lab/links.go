// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The functions below work in the network namespace of the calling thread.

func find(name string) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find link %s: %w", name, err)
	}
	return link, nil
}

// linkUp gives the link its addresses, brings it up and returns when it can be used.
func linkUp(name string, addrs ...netip.Prefix) error {
	link, err := find(name)
	if err != nil {
		return err
	}
	for _, addr := range addrs {
		if err := addrAdd(link, addr); err != nil {
			return err
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up %s: %w", name, err)
	}
	for _, addr := range addrs {
		// An IPv6 address is there at once, but packets to it are not the host's until a kernel worker has run.
		err := await(fmt.Sprintf("%s is local", addr.Addr()), func() bool {
			routes, err := netlink.RouteGet(addr.Addr().AsSlice())
			return err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// awaitCarrier waits for a link that is up to have something at its other end. Until a kernel worker has seen to that, the link
// silently drops what it should send, and a handshake initiation that is lost costs 5 s.
func awaitCarrier(name string) error {
	return await(name+" has a carrier", func() bool {
		link, err := netlink.LinkByName(name)
		return err == nil && link.Attrs().OperState == netlink.OperUp
	})
}

// await polls until ready is true.
func await(what string, ready func() bool) error {
	const patience = 5 * time.Second
	for deadline := time.Now().Add(patience); !ready(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("wait until %s: not after %s", what, patience)
		}
	}
	return nil
}

func addrAdd(link netlink.Link, addr netip.Prefix) error {
	a := &netlink.Addr{IPNet: ipNet(addr)}
	if addr.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD // or it could not be used for a second
	}
	if err := netlink.AddrAdd(link, a); err != nil {
		return fmt.Errorf("add %s to %s: %w", addr, link.Attrs().Name, err)
	}
	return nil
}

func linkDel(name string) error {
	link, err := find(name)
	if err != nil {
		return err
	}
	if err := netlink.LinkDel(link); err != nil {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	return nil
}

// routeAdd sends packets for the prefixes into the link.
func routeAdd(name string, prefixes []net.IPNet) error {
	link, err := find(name)
	if err != nil {
		return err
	}
	for _, prefix := range prefixes {
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: &prefix, Scope: netlink.SCOPE_LINK}
		if err := netlink.RouteAdd(route); err != nil {
			return fmt.Errorf("route %s through %s: %w", &prefix, name, err)
		}
	}
	return nil
}

// ipNet keeps the host's bits of the prefix.
func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// single is the prefix that holds just the address.
func single(addr netip.Addr) netip.Prefix { return netip.PrefixFrom(addr, addr.BitLen()) }
