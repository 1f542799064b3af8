// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// replayer puts held packets back onto the watched device. It sends them
// through a packet socket, so that they pass the device's egress hooks like
// any other packet; the egress program knows the socket by its cookie, which
// no other socket has, and lets through what comes from it.
type replayer struct {
	fd      int
	cookie  uint64
	ifindex int
}

func newReplayer(ifindex int) (*replayer, error) {
	// Protocol 0: the socket receives nothing.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, explain(fmt.Errorf("packet socket: %w", err))
	}
	r := &replayer{fd: fd, ifindex: ifindex}
	// WireGuard keeps packets until a handshake is through, and they count
	// against the socket that long: those of many peers at once must fit.
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 4*maxHeldBytes)
	if err == nil {
		r.cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	}
	if err != nil {
		_ = r.close()
		return nil, explain(fmt.Errorf("packet socket: %w", err))
	}
	return r, nil
}

func (r *replayer) send(p heldPacket) error {
	return unix.Sendto(r.fd, p.bytes, 0, &unix.SockaddrLinklayer{
		Ifindex:  r.ifindex,
		Protocol: networkOrder(p.protocol),
	})
}

func (r *replayer) close() error { return unix.Close(r.fd) }

// protocolOf is the EtherType of an IP packet.
func protocolOf(packet []byte) uint16 {
	if packet[0]>>4 == 6 {
		return unix.ETH_P_IPV6
	}
	return unix.ETH_P_IP
}

// networkOrder is n as a number whose bytes in memory are in network order.
func networkOrder(n uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], n)
	return binary.NativeEndian.Uint16(b[:])
}
