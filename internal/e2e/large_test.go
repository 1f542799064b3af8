// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
)

// echo writes all of the data at once and reads it back.
func echo(t *testing.T, conn *net.TCPConn, data []byte) {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() {
		_, err := conn.Write(data)
		written <- err
	}()
	got := make([]byte, len(data))
	if n, err := io.ReadFull(conn, got); err != nil {
		t.Errorf("%d of %d bytes came back: %v", n, len(data), err)
	} else if !bytes.Equal(got, data) {
		t.Error("other data came back")
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
	// Or the kernel acknowledges the end of it later, at a time of its own.
	if err := setOption(conn, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1); err != nil {
		t.Error(err)
	}
}

// hangUp closes a connection, and waits until the other side has done so: no packet comes behind that.
func hangUp(t *testing.T, conn *net.TCPConn) {
	t.Helper()
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, conn); n != 0 || err != nil {
		t.Errorf("%d bytes came back, and: %v", n, err)
	}
}

// pattern is data in which no part is like another.
func pattern(size int) []byte {
	var data []byte
	for i := uint32(0); len(data) < size; i++ {
		data = binary.BigEndian.AppendUint32(data, i)
	}
	return data
}

// TestLargeWrite writes as much to a sleeping peer as the kernel makes packets of 64 KiB of, for the device to split: on a
// connection that is new, and on one that was there before the peer fell asleep.
func TestLargeWrite(t *testing.T) {
	data := pattern(256 << 10)
	for name, start := range subjects {
		for modeName, mode := range wakeModes {
			t.Run(name+"/"+modeName, func(t *testing.T) {
				n := labtest.Network(t, lab.Options{Keepalive: keepalive})
				e := serveEcho(t, n)
				s := start(t, n, mode)
				forget(t, n, s)
				before := s.figures()
				conn, err := n.Here.DialTCP(soon(t), e.IPv4)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				echo(t, conn, data)
				awaitWake(t, s, before, mode)

				forget(t, n, s)
				before = s.figures()
				echo(t, conn, data[:128<<10]) // fewer packets than are held of a peer
				awaitWake(t, s, before, mode)
				hangUp(t, conn)
			})
		}
	}
}

// TestSegmentedDatagrams hands the kernel five datagrams in one packet, as the first for the peer.
func TestSegmentedDatagrams(t *testing.T) {
	const size, segments = 1000, 5
	for name, start := range subjects {
		for modeName, mode := range wakeModes {
			t.Run(name+"/"+modeName, func(t *testing.T) {
				n := labtest.Network(t, lab.Options{Keepalive: keepalive})
				e := serveEcho(t, n)
				s := start(t, n, mode)
				forget(t, n, s)
				before := s.figures()

				numbers := newStream(t, n, e.IPv6)
				if err := setOption(numbers.conn, unix.SOL_UDP, unix.UDP_SEGMENT, size); err != nil {
					t.Fatal(err)
				}
				var datagrams []byte
				for number := range uint32(segments) {
					datagram := binary.BigEndian.AppendUint32(nil, number)
					datagrams = append(datagrams, append(datagram, make([]byte, size-len(datagram))...)...)
				}
				if _, err := numbers.conn.Write(datagrams); err != nil {
					t.Fatal(err)
				}
				numbers.await(segments - 1)
				numbers.finish(segments)
				awaitWake(t, s, before, mode)
			})
		}
	}
}
