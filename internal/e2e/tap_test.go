// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/binary"
	"errors"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lazybpf/lazybpf/internal/lab"
)

// tap sees what Here hands to WireGuard. The order of packets is to be seen there: wireguard-go changes it now and then.
type tap struct {
	t  testing.TB
	fd int
}

func newTap(t testing.TB, n *lab.Network) *tap {
	t.Helper()
	device, err := net.InterfaceByName(n.Here.Name)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	const room = 4 << 20 // bytes: for all that passes before numbers is called
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room); err != nil {
		t.Fatal(err)
	}
	everything := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everything, Ifindex: device.Index}); err != nil {
		t.Fatal(err)
	}
	return &tap{t, fd}
}

// numbers are those of the datagrams of a stream over IPv4 that have passed since the last call, or the beginning.
func (p *tap) numbers() (passed []uint32) {
	p.t.Helper()
	const headers = 20 + 8 // IPv4 and UDP
	packet := make([]byte, 1<<16)
	for {
		n, from, err := unix.Recvfrom(p.fd, packet, 0)
		if errors.Is(err, unix.EAGAIN) {
			return passed
		}
		if err != nil {
			p.t.Fatal(err)
		}
		outgoing := from.(*unix.SockaddrLinklayer).Pkttype == unix.PACKET_OUTGOING
		if outgoing && n == headers+4 && packet[0]>>4 == 4 && packet[9] == unix.IPPROTO_UDP {
			passed = append(passed, binary.BigEndian.Uint32(packet[headers:]))
		}
	}
}
