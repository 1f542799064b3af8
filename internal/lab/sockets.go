// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// noKeepAlive keeps an idle TCP connection silent: the probes that Go asks for by default would be traffic.
const noKeepAlive = -1

// DialTCP connects from the host.
func (h *Host) DialTCP(ctx context.Context, to netip.AddrPort) (conn *net.TCPConn, err error) {
	dialer := net.Dialer{KeepAlive: noKeepAlive}
	err = h.Do(func() (err error) {
		conn, err = dialer.DialTCP(ctx, "tcp", netip.AddrPort{}, to)
		return err
	})
	return conn, err
}

// DialUDP makes a socket on the host that is connected to the address.
func (h *Host) DialUDP(to netip.AddrPort) (conn *net.UDPConn, err error) {
	err = h.Do(func() (err error) {
		conn, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
		return err
	})
	return conn, err
}

// ListenUDP makes a socket that is bound to an address of the host; port 0 takes a free one.
func (h *Host) ListenUDP(on netip.AddrPort) (conn *net.UDPConn, err error) {
	err = h.Do(func() (err error) {
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(on))
		return err
	})
	return conn, err
}

// ListenTCP listens on an address of the host; port 0 takes a free one.
func (h *Host) ListenTCP(on netip.AddrPort) (listener *net.TCPListener, err error) {
	config := net.ListenConfig{KeepAlive: noKeepAlive}
	config.SetMultipathTCP(false) // Go's default; its TCP_INFO would be another
	err = h.Do(func() error {
		l, err := config.Listen(context.Background(), "tcp", on.String())
		if err != nil {
			return err
		}
		listener = l.(*net.TCPListener)
		return nil
	})
	return listener, err
}

// TCPInfo is what the kernel knows of a connection (tcp(7)): Total_retrans counts the segments that were sent again,
// Snd_cwnd and Snd_ssthresh are in segments, Rtt is in microseconds.
func TCPInfo(conn *net.TCPConn) (info *unix.TCPInfo, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	controlErr := raw.Control(func(fd uintptr) {
		info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	})
	if controlErr != nil {
		return nil, controlErr
	}
	return info, err
}

// Retransmits counts the segments that the connection's near end had to send again.
func Retransmits(conn *net.TCPConn) (uint32, error) {
	info, err := TCPInfo(conn)
	if err != nil {
		return 0, err
	}
	return info.Total_retrans, nil
}
