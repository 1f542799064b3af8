// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what should happen at once.
const patience = 30 * time.Second

// device is a TUN device, with the test in WireGuard's place: it reads what
// WireGuard would encrypt and writes what WireGuard would have decrypted. The
// first address of either network is the host's, the others are for peers.
//
//	socket ─► 10.7.0.1/16, fd07::1/64 ─► tc egress ─► next
//	socket ◄─ 10.7.0.1/16, fd07::1/64 ◄─ tc ingress ◄─ inject
type device struct {
	t     testing.TB
	name  string
	index int
	tun   *os.File
	flags uint16

	socket4, socket6 *net.UDPConn // of the host
}

var host4, host6 = netip.MustParseAddr("10.7.0.1"), netip.MustParseAddr("fd07::1")

// peer4 and peer6 are the addresses of the n-th peer, with a port of it.
func peer4(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 7, byte(n >> 8), byte(n)}), 7000)
}

func peer6(n int) netip.AddrPort {
	a := host6.As16()
	a[14], a[15] = byte(n>>8), byte(n)
	return netip.AddrPortFrom(netip.AddrFrom16(a), 7000)
}

// single is the prefix of just that address.
func single(a netip.AddrPort) netip.Prefix { return netip.PrefixFrom(a.Addr(), a.Addr().BitLen()) }

func noPort(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, 0) }

// vnetHeader is the length of what stands before the packets of a device with
// IFF_VNET_HDR: a struct virtio_net_hdr.
const vnetHeader = 10

var devices atomic.Uint32 // made so far

// newDevice makes a device without offloads: what comes out are plain IP
// packets, all complete.
func newDevice(t testing.TB) *device {
	t.Helper()
	d := openDevice(t, 0)
	d.bringUp()
	return d
}

// openDevice makes a device for the length of a test. It has no address yet,
// and is down.
func openDevice(t testing.TB, flags uint16) *device {
	t.Helper()
	d := &device{t: t, name: fmt.Sprintf("tun%d", devices.Add(1)), flags: flags}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	request, err := unix.NewIfreq(d.name)
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | flags)
	err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	d.tun = os.NewFile(uintptr(fd), d.name) // which looks whether it can be polled: not before it is a device
	t.Cleanup(d.remove)
	if err != nil {
		t.Fatal(err)
	}
	d.index = d.link().Attrs().Index
	return d
}

func (d *device) link() netlink.Link {
	d.t.Helper()
	link, err := netlink.LinkByName(d.name)
	if err != nil {
		d.t.Fatal(err)
	}
	return link
}

// bringUp gives the device its addresses, and opens the host's sockets.
func (d *device) bringUp() {
	d.t.Helper()
	link := d.link()
	network := func(a netip.Addr, bits int) *netlink.Addr {
		return &netlink.Addr{Flags: unix.IFA_F_NODAD, IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, a.BitLen())}}
	}
	err := errors.Join(
		// Without a link-local address the kernel has little to say by itself.
		netlink.LinkSetIP6AddrGenMode(link, nl.IN6_ADDR_GEN_MODE_NONE),
		netlink.LinkSetTxQLen(link, 1<<14), // tests send first and read then; Linux 7.2 takes up to 32767
		netlink.AddrAdd(link, network(host4, 16)),
		netlink.AddrAdd(link, network(host6, 64)),
		netlink.LinkSetUp(link),
	)
	if err != nil {
		d.t.Fatal(err)
	}
	d.socket4, d.socket6 = d.listen(host4), d.listen(host6)
}

func (d *device) listen(a netip.Addr) *net.UDPConn {
	d.t.Helper()
	socket, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { socket.Close() })
	return socket
}

// remove removes the device, as far as the test has not done so itself.
func (d *device) remove() { d.tun.Close() }

// send sends a datagram from the host to a peer.
func (d *device) send(to netip.AddrPort, payload string) {
	d.t.Helper()
	if _, err := d.socket(to).WriteToUDPAddrPort([]byte(payload), to); err != nil {
		d.t.Errorf("send %q to %s: %v", payload, to, err)
	}
}

// host is where datagrams to the peer come from.
func (d *device) host(peer netip.AddrPort) netip.AddrPort {
	return d.socket(peer).LocalAddr().(*net.UDPAddr).AddrPort()
}

func (d *device) socket(peer netip.AddrPort) *net.UDPConn {
	if peer.Addr().Is4() {
		return d.socket4
	}
	return d.socket6
}

// control sets an option of a socket.
func control(t testing.TB, socket syscall.Conn, set func(fd int) error) {
	t.Helper()
	raw, err := socket.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failure error
	if err := raw.Control(func(fd uintptr) { failure = set(int(fd)) }); err != nil || failure != nil {
		t.Fatal(err, failure)
	}
}

// inject brings a packet into the host, as if it had come from a peer.
func (d *device) inject(packet []byte) {
	d.t.Helper()
	if d.flags&unix.IFF_VNET_HDR != 0 {
		packet = append(make([]byte, vnetHeader), packet...)
	}
	d.write(packet)
}

// write writes what a device with IFF_VNET_HDR wants to read: a packet behind
// its header.
func (d *device) write(packet []byte) {
	d.t.Helper()
	if _, err := d.tun.Write(packet); err != nil {
		d.t.Error("inject:", err)
	}
}

// answer injects a datagram of a peer to the host's socket.
func (d *device) answer(from netip.AddrPort, payload string) {
	d.t.Helper()
	d.inject(udp(from, d.host(from), payload))
}

// next is the next packet that leaves the host through the device, but for what
// the kernel sends to groups.
func (d *device) next() []byte {
	d.t.Helper()
	if err := d.tun.SetReadDeadline(time.Now().Add(patience)); err != nil {
		d.t.Fatal(err)
	}
	buffer := make([]byte, 1<<16)
	for {
		n, err := d.tun.Read(buffer)
		if err != nil {
			d.t.Fatal("next packet:", err)
		}
		packet := buffer[:n:n]
		if d.flags&unix.IFF_VNET_HDR != 0 {
			packet = packet[vnetHeader:]
		}
		if flow, _ := parse(packet); !flow.Destination.Addr().IsMulticast() {
			return packet
		}
	}
}

// nothing says that no packet has left the host that the test has not read:
// next is the one that is sent now.
func (d *device) nothing() {
	d.t.Helper()
	d.send(peer4(0xff00), "the end")
	d.expect("the end")
}

// expect reads datagrams off the device, which must be these, intact and in
// this order.
func (d *device) expect(payloads ...string) {
	d.t.Helper()
	for _, want := range payloads {
		packet := d.next()
		if err := verify(packet); err != nil {
			d.t.Errorf("packet for %q: %v", want, err)
		}
		if got := data(packet); got != want {
			flow, _ := parse(packet)
			d.t.Fatalf("out came %q of %s, want %q", got, flow, want)
		}
	}
}
