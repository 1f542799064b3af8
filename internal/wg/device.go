// SPDX-License-Identifier: Apache-2.0

// Package wg is the WireGuard side of lazybpf: it reads the peers of a device,
// turns their keepalives off and on, takes peers off the device and puts them
// back, and remembers how they were.
//
// What wgctrl reads of a device holds its private key and preshared keys. They
// are dropped here. The one exception is the preshared key of an evicted peer,
// which nobody else has: it stands in a presharedKey, which does not show it.
package wg

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// The errors of this package; test with errors.Is.
var (
	// ErrNoDevice: there is no network device of this name.
	ErrNoDevice = errors.New("no such device")
	// ErrNotWireGuard: the device is neither kernel WireGuard nor wireguard-go.
	ErrNotWireGuard = errors.New("not a WireGuard device")
	// ErrPermission: reading and configuring devices takes CAP_NET_ADMIN.
	ErrPermission = errors.New("missing capability CAP_NET_ADMIN")
	// ErrNoAnswer: wireguard-go is stopped, or hangs. What was asked of it may be
	// done yet, once it goes on.
	ErrNoAnswer = errors.New("WireGuard does not answer")
	// ErrUnknownPeer: the device has no such peer.
	ErrUnknownPeer = errors.New("unknown peer")
)

// Peer is what a device says of a peer.
type Peer struct {
	Key           lazy.Key
	Endpoint      netip.AddrPort // zero: none known
	AllowedIPs    []netip.Prefix // in order
	Keepalive     time.Duration  // 0: off
	LastHandshake time.Time      // zero: none yet
}

// Change is what to set of a peer, all of it in one message. The rest stays.
type Change struct {
	Key       lazy.Key
	Endpoint  netip.AddrPort // zero: leave
	Keepalive time.Duration  // 0: off
}

// Device is a WireGuard device. Its methods may be called from any goroutine.
type Device struct {
	name  string
	kind  wgtypes.DeviceType
	index int    // of the interface
	id    string // see interfaceID
	// A client does one thing at a time. Reading a device with many peers takes
	// long, and a peer that wakes must not wait for it.
	read, write client

	// Held while the device is read, and while peers are removed: the kernel
	// ends a reading that it is in the midst of when the peer that is next goes
	// (drivers/net/wireguard/netlink.c), and wgctrl does not tell.
	reading sync.Mutex
}

// Open finds a device in the network namespace of the calling thread. Errors:
// ErrNoDevice, ErrNotWireGuard, ErrPermission, ErrNoAnswer; the last two are those
// of all that is asked of the device later, too.
func Open(name string) (*Device, error) { return OpenWithin(name, AnswerTime) }

// OpenWithin is Open of a device that has another time to answer, then and later.
// A reading of a device with many peers may take longer.
func OpenWithin(name string, answer time.Duration) (_ *Device, err error) {
	d := &Device{name: name}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", name, errors.Join(explain(err), d.Close()))
		}
	}()
	if err := d.bind(answer); err != nil {
		return nil, err
	}
	// To change nothing shows whether it is a WireGuard device, however many
	// peers it has: reading them takes long.
	if err := d.write.ConfigureDevice(name, wgtypes.Config{}); errors.Is(explain(err), ErrNoDevice) {
		return nil, ErrNotWireGuard
	} else if err != nil {
		return nil, err
	}
	return d, nil
}

// bind finds the interface of the device's name, once: a moment later the name may
// be another's. Error: os.ErrNotExist.
func (d *Device) bind(answer time.Duration) error {
	link, err := findLink(d.name)
	if err != nil {
		return err
	}
	d.index = link.Attrs().Index
	if d.id, err = interfaceID(d.index); err != nil {
		return err
	}
	d.kind = wgtypes.Userspace
	if _, ok := link.(*netlink.Wireguard); ok {
		d.kind = wgtypes.LinuxKernel
	}
	patience := &patience{answer: answer}
	for _, c := range []*client{&d.read, &d.write} {
		if *c, err = newClient(d.index, d.kind, patience); err != nil {
			return err
		}
	}
	return nil
}

// Kind says whose WireGuard it is: "Linux kernel" or "userspace".
func (d *Device) Kind() string { return d.kind.String() }

// ID tells the interface from all others: those of its name before and after it,
// in other network namespaces, and after a reboot.
func (d *Device) ID() string { return d.id }

// Index is that of the interface, which the kernel gives to no other.
func (d *Device) Index() int { return d.index }

// Name is the device's name.
func (d *Device) Name() string { return d.name }

// Close lets go of the device.
func (d *Device) Close() error {
	var errs []error
	for _, c := range []client{d.read, d.write} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// Peers reads all peers of the device, which takes time in proportion to their
// number. Errors: ErrNoDevice, ErrPermission.
func (d *Device) Peers() ([]Peer, error) {
	all, err := d.readPeers()
	peers := make([]Peer, len(all))
	for i := range all {
		peers[i] = peerOf(&all[i])
	}
	return peers, err
}

// readPeers returns peers with their secrets: callers must not keep them.
func (d *Device) readPeers() ([]wgtypes.Peer, error) {
	d.reading.Lock()
	defer d.reading.Unlock()
	device, err := d.read.Device(d.name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", d.name, explain(err))
	}
	return device.Peers, nil
}

func peerOf(p *wgtypes.Peer) Peer {
	peer := Peer{
		Key:           lazy.Key(p.PublicKey),
		Keepalive:     p.PersistentKeepaliveInterval,
		LastHandshake: p.LastHandshakeTime,
	}
	if p.Endpoint != nil {
		a := p.Endpoint.AddrPort()
		peer.Endpoint = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	}
	peer.AllowedIPs = slices.Grow(peer.AllowedIPs, len(p.AllowedIPs))
	for _, ip := range p.AllowedIPs {
		if prefix, ok := prefixOf(ip); ok {
			peer.AllowedIPs = append(peer.AllowedIPs, prefix)
		}
	}
	slices.SortFunc(peer.AllowedIPs, netip.Prefix.Compare)
	return peer
}

func prefixOf(n net.IPNet) (netip.Prefix, bool) {
	a, ok := netip.AddrFromSlice(n.IP)
	ones, bits := n.Mask.Size()
	if ok && bits == 32 {
		a = a.Unmap()
	}
	return netip.PrefixFrom(a, ones), ok
}

// Configure sets what the changes say, each peer's in one message. A peer that
// the device no longer has is passed over. Errors: ErrNoDevice, ErrPermission.
func (d *Device) Configure(changes ...Change) error {
	configs := make([]wgtypes.PeerConfig, len(changes))
	for i, c := range changes {
		configs[i] = wgtypes.PeerConfig{
			PublicKey: wgtypes.Key(c.Key),
			// Else it would add peers that somebody has just removed.
			UpdateOnly:                  true,
			PersistentKeepaliveInterval: &c.Keepalive,
		}
		if c.Endpoint.IsValid() {
			configs[i].Endpoint = net.UDPAddrFromAddrPort(c.Endpoint)
		}
	}
	return d.configure(configs)
}

func (d *Device) configure(peers []wgtypes.PeerConfig) error {
	if len(peers) == 0 {
		return nil
	}
	if err := d.write.ConfigureDevice(d.name, wgtypes.Config{Peers: peers}); err != nil {
		return fmt.Errorf("configure %s: %w", d.name, explain(err))
	}
	return nil
}

// explain gives the errors of the operating system their names here.
func explain(err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist),
		errors.Is(err, unix.ECONNREFUSED): // the socket of a wireguard-go that is gone
		return ErrNoDevice
	case errors.Is(err, os.ErrPermission):
		return ErrPermission
	}
	return err
}
