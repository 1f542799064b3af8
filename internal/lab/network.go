// SPDX-License-Identifier: Apache-2.0

// Package lab builds real WireGuard networks and throws them away: for end-to-end tests, benchmarks and the demo. It needs
// root and TUN or kernel WireGuard, and no other program.
//
// A network is two hosts, joined by a cable, whose WireGuard interfaces have one another as their only peer:
//
//	Here, in the caller's network namespace           There, in a namespace without a name
//
//	wg1a    10.7.1.1/32    fd07:1::1/128              wg1b    10.7.1.2/32    fd07:1::2/128
//	veth1a  198.18.1.1/24  2001:db8:1::1/64 ───────── veth1b  198.18.1.2/24  2001:db8:1::2/64
//	        WireGuard on UDP port 51821                       WireGuard on UDP port 51821
//
// Every network has a number, from 1 to 255, which stands in its names, addresses and ports: several can exist at once. All of
// it happens inside the lab that [Main] or [Reexec] make, so that the machine outside never sees it.
package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// The kinds of WireGuard a [Network] can be made of.
const (
	Kernel      = "kernel"
	WireGuardGo = "wireguard-go"
)

// Network is two hosts with a WireGuard tunnel between them.
type Network struct {
	// Here is in the network namespace that New was called in.
	Here *Host
	// There is on the other side of the tunnel.
	There *Host

	kind  string
	there wgtypes.PeerConfig // as Here has it at first
	undo  []func() error     // what Close does, last first
}

// New builds a network. It must be called inside a lab.
func New(opts Options) (*Network, error) {
	if err := opts.Validate(); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	at, err := where()
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	if at != inside {
		return nil, errors.New("lab: New was called outside Main and Reexec and would change this machine's network")
	}

	n := new(Network)
	if err := n.build(opts); err != nil {
		return nil, errors.Join(fmt.Errorf("lab: %w", err), n.Close())
	}
	return n, nil
}

// Kind says what WireGuard the network is made of: [Kernel] or [WireGuardGo].
func (n *Network) Kind() string { return n.kind }

// Close takes the network down and leaves nothing of it. Sockets that the caller still has in There keep only its empty
// namespace alive. Closing again does nothing.
func (n *Network) Close() error {
	var errs []error
	for len(n.undo) > 0 {
		last := len(n.undo) - 1
		errs = append(errs, n.undo[last]())
		n.undo = n.undo[:last]
	}
	return errors.Join(errs...)
}

// betweenSessions is how long it takes until a host takes another handshake of the same peer: see ForgetSessions.
const betweenSessions = 50 * time.Millisecond

// ForgetSessions removes either host from the other and adds it again with the preshared key, endpoint, allowed IPs and
// keepalive it had, in one call for each side: the next packet needs a handshake. A keepalive asks for it at once.
//
// Leave 50 ms between two sessions, as Up does. WireGuard takes no second handshake initiation from a peer within 20 ms, and none that is
// not newer than the last by a timestamp that it rounds to about 17 ms; whoever is refused tries again after 5 s. A peer that
// was just added has no such past, but a packet that is sent while ForgetSessions is between the two hosts gives it one.
func (n *Network) ForgetSessions() error {
	// In this order because of the keepalive, as in introduce.
	return errors.Join(n.There.forget(n.Here.PublicKey), n.Here.forget(n.There.PublicKey))
}

func (n *Network) onClose(undo func() error) { n.undo = append(n.undo, undo) }

func (n *Network) build(opts Options) error {
	if err := n.addHosts(); err != nil {
		return err
	}
	number, err := n.layCable()
	if err != nil {
		return err
	}
	hosts := []*Host{n.Here, n.There}
	for i, h := range hosts {
		if err := h.settle(number, i+1); err != nil {
			return err
		}
		if err := h.plugIn(); err != nil {
			return err
		}
	}
	for _, h := range hosts {
		if err := h.Do(func() error { return awaitCarrier(h.Cable) }); err != nil {
			return err
		}
		n.onClose(h.removeWireGuard)
		if err := n.addWireGuard(h, opts.Userspace, nil); err != nil {
			return err
		}
		// After the interface: adding the first one may be what makes the kernel load WireGuard.
		if err := h.openControl(); err != nil {
			return err
		}
		n.onClose(h.control.Close)
	}
	return n.introduce(opts)
}

func (n *Network) addHosts() error {
	here, err := currentNamespace()
	if err != nil {
		return err
	}
	n.onClose(here.Close)
	there, err := newNamespace()
	if err != nil {
		return err
	}
	n.onClose(there.Close)
	n.Here, n.There = &Host{netns: here}, &Host{netns: there}
	return nil
}

// maxNumber keeps a network's number in one byte of its IPv4 addresses.
const maxNumber = 255

// firstPort is the one before those that the networks' WireGuard listens on.
const firstPort = 51820

// networks counts the networks built, so that one seldom has the names of another that was there before.
var networks atomic.Uint32

// layCable joins the hosts and returns the network's number. Whoever has the link of that name has the number: other
// processes in the lab build networks too.
func (n *Network) layCable() (number int, err error) {
	for range maxNumber {
		number = 1 + int((networks.Add(1)-1)%maxNumber)
		attrs := netlink.NewLinkAttrs()
		attrs.Name = cableName(number, 1)
		err = n.Here.Do(func() error {
			return netlink.LinkAdd(&netlink.Veth{
				LinkAttrs:     attrs,
				PeerName:      cableName(number, 2),
				PeerNamespace: netlink.NsFd(n.There.netns.file.Fd()),
			})
		})
		if err == nil {
			// The other end goes with it.
			n.onClose(func() error { return n.Here.Do(func() error { return linkDel(attrs.Name) }) })
			return number, nil
		}
		if !errors.Is(err, unix.EEXIST) {
			break
		}
	}
	return 0, fmt.Errorf("add a veth pair: %w", err)
}

// addWireGuard gives the host its WireGuard interface, of the kernel if it can make one. It calls early, if there is one, as
// soon as the interface is there.
func (n *Network) addWireGuard(h *Host, userspace bool, early func()) error {
	n.kind = WireGuardGo
	if !userspace {
		n.kind = Kernel
		err := h.addKernel(early)
		if !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
		n.kind = WireGuardGo
	}
	return h.addUserspace(early)
}

// Down removes Here's WireGuard interface, as wg-quick down does.
func (n *Network) Down() error {
	if err := n.Here.removeWireGuard(); err != nil {
		return err
	}
	// A program that this process is just starting may have the TUN device for a moment longer.
	return n.Here.Do(func() error {
		return await(n.Here.Name+" is gone", func() bool {
			_, err := netlink.LinkByName(n.Here.Name)
			return errors.As(err, new(netlink.LinkNotFoundError))
		})
	})
}

// Up gives Here a WireGuard interface again, of the name, keys and addresses of the one that Down has removed, as wg-quick up
// does. It has these peers, without routes; or else There as it was at first. Before it can be configured (wireguard-go) or has
// been (of the kernel) Up calls early, if there is one.
func (n *Network) Up(early func(), peers ...wgtypes.PeerConfig) error {
	last, err := n.There.LastHandshake(n.Here.PublicKey)
	if err != nil {
		return err
	}
	time.Sleep(time.Until(last.Add(betweenSessions)))
	if err := n.addWireGuard(n.Here, n.kind == WireGuardGo, early); err != nil {
		return err
	}
	if len(peers) > 0 {
		return n.Here.meet(peers...)
	}
	return n.Here.reach(n.there)
}

// introduce makes either host the other's peer. There comes first: Here may have a keepalive, which starts a handshake at once,
// and an initiation that There cannot answer costs 5 s.
func (n *Network) introduce(opts Options) error {
	here := n.Here.asPeer()
	if opts.ThereHasNoEndpoint {
		here.Endpoint = nil
	}
	if err := n.There.reach(here); err != nil {
		return err
	}
	if err := n.There.Do(func() error { return addSubnetAddrs(opts.ExtraAllowedIPs) }); err != nil {
		return err
	}

	there := n.There.asPeer()
	there.PersistentKeepaliveInterval = &opts.Keepalive
	for _, prefix := range opts.ExtraAllowedIPs {
		there.AllowedIPs = append(there.AllowedIPs, *ipNet(prefix.Masked()))
	}
	n.there = there
	return n.Here.reach(there)
}

// addSubnetAddrs puts the addresses on the loopback interface: on the WireGuard interface they could become the source of what
// the host sends by itself.
func addSubnetAddrs(prefixes []netip.Prefix) error {
	for _, prefix := range prefixes {
		if prefix == prefix.Masked() && !prefix.IsSingleIP() {
			continue // names no host
		}
		if err := linkUp("lo", single(prefix.Addr())); err != nil {
			return err
		}
	}
	return nil
}
