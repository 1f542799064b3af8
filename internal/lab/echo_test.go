// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

func serveEcho(t *testing.T, h *Host) *Echo {
	t.Helper()
	e, err := h.ServeEcho()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// exchange sends data through the connection and wants it back.
func exchange(t *testing.T, conn net.Conn, data []byte) {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(4 * time.Second)); err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(data)
		sent <- err
	}()
	got := make([]byte, len(data))
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Errorf("%s: %v", conn.RemoteAddr(), err)
	} else if !bytes.Equal(got, data) {
		t.Errorf("%s: what came back is not what was sent", conn.RemoteAddr())
	}
	if err := <-sent; err != nil {
		t.Errorf("%s: %v", conn.RemoteAddr(), err)
	}
}

func TestEcho(t *testing.T) {
	n := newNetwork(t, Options{})
	for _, way := range []struct{ from, to *Host }{{n.Here, n.There}, {n.There, n.Here}} {
		e := serveEcho(t, way.to)
		for _, addr := range []netip.AddrPort{e.IPv4, e.IPv6} {
			tcp, err := way.from.DialTCP(soon(t), addr)
			if err != nil {
				t.Fatal(err)
			}
			defer tcp.Close()
			exchange(t, tcp, bytes.Repeat([]byte("tcp over WireGuard "), 10_000))

			udp, err := way.from.DialUDP(addr)
			if err != nil {
				t.Fatal(err)
			}
			defer udp.Close()
			exchange(t, udp, []byte("udp over WireGuard"))
		}
	}
}

func TestRetransmits(t *testing.T) {
	n := newNetwork(t, Options{})
	tcp, err := n.Here.DialTCP(soon(t), serveEcho(t, n.There).IPv4)
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	exchange(t, tcp, []byte("nothing is lost")) // sets the deadline too
	before, err := TCPInfo(tcp)
	if err != nil {
		t.Fatal(err)
	}
	if before.Snd_cwnd == 0 || before.Rtt == 0 {
		t.Errorf("congestion window %d, round trip %d µs", before.Snd_cwnd, before.Rtt)
	}

	stop := drop(t, n.There, n.There.Cable, netlink.HANDLE_MIN_INGRESS)
	lost := []byte("all is lost")
	if _, err := tcp.Write(lost); err != nil {
		t.Fatal(err)
	}
	for ctx := soon(t); ; time.Sleep(10 * time.Millisecond) {
		again, err := Retransmits(tcp)
		if err != nil {
			t.Fatal(err)
		}
		if again > before.Total_retrans {
			break
		}
		if ctx.Err() != nil {
			t.Fatal("no retransmissions while every packet is dropped")
		}
	}
	stop()
	got := make([]byte, len(lost))
	if _, err := io.ReadFull(tcp, got); err != nil || !bytes.Equal(got, lost) {
		t.Errorf("after the loss: %q, %v; want %q", got, err, lost)
	}
}
