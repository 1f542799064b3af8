// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lazybpf/lazybpf/internal/lab"
)

// stream is numbered datagrams from Here to an echo server, and what comes back of them. One goroutine may send while another
// receives.
type stream struct {
	t      testing.TB
	conn   *net.UDPConn
	buffer []byte
	echoes []uint32 // their numbers, in the order in which they came
	times  map[uint32]int
}

func newStream(t testing.TB, n *lab.Network, to netip.AddrPort) *stream {
	t.Helper()
	conn, err := n.Here.DialUDP(to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := hearOfDrops(conn, to.Addr()); err != nil {
		t.Fatal(err)
	}
	return &stream{t: t, conn: conn, buffer: make([]byte, 1<<16), times: make(map[uint32]int)}
}

// hearOfDrops makes a packet that is dropped on its way out of the host an error, ENOBUFS, for the socket that has sent it.
func hearOfDrops(conn *net.UDPConn, to netip.Addr) error {
	level, option := unix.SOL_IP, unix.IP_RECVERR
	if to.Is6() {
		level, option = unix.SOL_IPV6, unix.IPV6_RECVERR
	}
	return setOption(conn, level, option, 1)
}

func setOption(conn syscall.Conn, level, option, value int) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	controlErr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, value) })
	return errors.Join(controlErr, err)
}

// send sends a datagram of this number.
func (s *stream) send(number uint32) {
	s.t.Helper()
	if _, err := s.conn.Write(binary.BigEndian.AppendUint32(nil, number)); err != nil {
		s.t.Errorf("send datagram %d: %v", number, err)
	}
}

// await receives until the datagram of this number has come back.
func (s *stream) await(number uint32) {
	s.t.Helper()
	if err := s.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		s.t.Fatal(err)
	}
	for s.times[number] == 0 {
		n, err := s.conn.Read(s.buffer)
		if err != nil {
			s.t.Fatalf("datagram %d is lost: %v", number, err)
		}
		echo := binary.BigEndian.Uint32(s.buffer[:n])
		s.echoes = append(s.echoes, echo)
		s.times[echo]++
	}
}

// finish fails the test unless the datagrams from 0 to n-1 have come back once each. It sends one more: what was doubled on
// the way comes before that.
func (s *stream) finish(n uint32) {
	s.t.Helper()
	s.send(n)
	s.await(n)
	for number := range n {
		if times := s.times[number]; times != 1 {
			s.t.Errorf("datagram %d came back %d times", number, times)
		}
	}
}
