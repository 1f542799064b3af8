// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// newOffloading makes a tunnel whose device finishes checksums and splits what
// is large, as that of wireguard-go does: packets that pass it come out as the
// kernel handles them, with neither done.
func newOffloading(t testing.TB, hook Attach) *tunnel {
	t.Helper()
	dev := openDevice(t, unix.IFF_VNET_HDR)
	control(t, dev.tun, func(fd int) error {
		return unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6)
	})
	dev.bringUp()
	return &tunnel{t: t, dev: dev, d: newDetector(t, Options{Interface: dev.name, Attach: hook})}
}

// TestHoldGSO holds what the kernel handles as one packet: whole packets come
// out, each complete.
func TestHoldGSO(t *testing.T) {
	onEachHook(t, func(t *testing.T, hook Attach) {
		w := newOffloading(t, hook)
		for name, test := range map[string]func(*tunnel, func(peer) netip.AddrPort){"UDP": holdUDPSegments, "TCP": holdTCPSegments} {
			for family, address := range map[string]func(peer) netip.AddrPort{
				"IPv4": func(p peer) netip.AddrPort { return p.v4 },
				"IPv6": func(p peer) netip.AddrPort { return p.v6 },
			} {
				t.Run(name+" in "+family, func(t *testing.T) {
					w.in(t)
					test(w, address)
					w.expectEmpty()
				})
			}
		}
	})
}

// holdUDPSegments sends five datagrams at once (UDP_SEGMENT).
func holdUDPSegments(w *tunnel, address func(peer) netip.AddrPort) {
	const size = 1000
	payloads := []string{}
	for i := range 5 {
		payloads = append(payloads, strings.Repeat(fmt.Sprint(i), size))
	}
	payloads[4] = "and a short one"

	p := w.newHeld()
	to := address(p)
	socket := w.dev.socket(to)
	control(w.t, socket, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT, size) })
	w.send(to, strings.Join(payloads, ""))
	control(w.t, socket, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT, 0) })

	if event := w.d.nextEvent(); event.Length < 4*size {
		w.t.Errorf("the kernel has split the packets before: %+v", event)
	}
	w.expectHeld(p, Activity{Held: 5})
	w.d.mustOpen(p.id)
	w.dev.expect(payloads...)
	w.expectHeld(p, Activity{TxPackets: 5, Held: 5, Replayed: 5})
}

// holdTCPSegments writes more to a connection than one packet takes.
func holdTCPSegments(w *tunnel, address func(peer) netip.AddrPort) {
	p := w.newPeer()
	to := address(p)
	conn, sequence := w.connect(to)
	defer w.reset(conn)

	// Little enough for the first congestion window at the least MSS, so that
	// all goes out at once.
	text := strings.Repeat("To be or not to be. ", 200)
	w.d.mustArm(p.id, true)
	if _, err := conn.Write([]byte(text)); err != nil {
		w.t.Fatal(err)
	}
	if event := w.d.nextEvent(); event.Length < 2*536 {
		w.t.Errorf("the kernel has split the packets before: %+v", event)
	}
	w.d.mustOpen(p.id)
	packets, got := uint64(0), ""
	for len(got) < len(text) {
		packet := w.dev.next()
		if err := verify(packet); err != nil {
			w.t.Error(err)
		}
		_, segment := parse(packet)
		if offset := binary.BigEndian.Uint32(segment[4:]) - sequence; int(offset) != len(got) {
			continue // sent again, as nobody acknowledges anything
		}
		got += data(packet)
		packets++
	}
	if got != text {
		w.t.Errorf("what came out is not what went in: %q", got)
	}
	if a := w.d.mustActivity(p.id); packets < 4 || a.Held < packets || a.Held != a.Replayed {
		w.t.Errorf("%d packets came out: %+v", packets, a)
	}
}

// connect opens a TCP connection to an address, for which the test speaks: it
// agrees, and then says no more. The connection's data begin at this sequence
// number.
func (w *tunnel) connect(to netip.AddrPort) (conn *net.TCPConn, sequence uint32) {
	w.t.Helper()
	failed := make(chan error, 1)
	go func() {
		var err error
		conn, err = net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(to))
		failed <- err
	}()
	flow, segment := parse(w.dev.next())
	if flow.Destination != to || !isSYN(flow, segment) {
		w.t.Fatalf("%s is no attempt to connect to %s", flow, to)
	}
	sequence = binary.BigEndian.Uint32(segment[4:]) + 1
	w.dev.inject(tcpSegment(to, flow.Source, tcpSYN|tcpACK, 0, sequence, ""))
	if err := <-failed; err != nil {
		w.t.Fatal(err)
	}
	if flow, _ := parse(w.dev.next()); flow.Destination != to {
		w.t.Fatalf("%s is no acknowledgement", flow)
	}
	return conn, sequence
}

// reset ends a connection without waiting for anybody's agreement.
func (w *tunnel) reset(conn *net.TCPConn) {
	w.t.Helper()
	if err := errors.Join(conn.SetLinger(0), conn.Close()); err != nil {
		w.t.Fatal(err)
	}
	for {
		if _, segment := parse(w.dev.next()); segment[tcpFlags]&tcpRST != 0 {
			return
		}
	}
}

// writeSegments brings in a packet as wireguard-go does: many segments that it has
// put together, of which it says the size.
func (d *device) writeSegments(packet []byte, size int) {
	d.t.Helper()
	const needsChecksum, tcp4, tcp6 = 1, 1, 4
	length, kind := header4, tcp4
	if packet[0]>>4 == 6 {
		length, kind = header6, tcp6
	}
	header := []byte{needsChecksum, byte(kind)}
	for _, field := range []int{length + 20, size, length, 16} { // headers, segment, checksum from, and at
		header = binary.NativeEndian.AppendUint16(header, uint16(field))
	}
	d.write(append(header, packet...))
}

// TestIngressGSO has peers send segments: it is those that count.
func TestIngressGSO(t *testing.T) {
	const size = 1000
	w := newOffloading(t, AttachAuto)
	p := w.newPeer()
	for _, test := range []struct {
		bytes   int
		packets uint64
	}{{2 * size, 2}, {2*size + 1, 3}, {2*size + 100, 3}, {5 * size, 5}, {5*size - 1, 5}} {
		for _, packet := range [][]byte{ // to which nobody answers
			tcpSegment(p.v4, hostPort4, tcpRST, 0, 0, string(make([]byte, test.bytes))),
			tcpSegment(p.v6, hostPort6, tcpRST, 0, 0, string(make([]byte, test.bytes))),
		} {
			counted := w.d.counts(p.id)
			w.dev.writeSegments(packet, size)
			counted.expect(Ingress, p.id, test.packets, len(packet), Stats{})
		}
	}
}

// TestHoldForwardedGSO holds segments that one peer sends to another. As many come
// to the parking device as the program has counted: else the gate would wait for
// more, or be open too early.
func TestHoldForwardedGSO(t *testing.T) {
	const size = 1000
	forwardIPv4(t)
	w := newOffloading(t, AttachAuto)
	from := w.newPeer()
	for _, last := range []int{1, size} {
		p := w.newHeld()
		w.dev.writeSegments(tcpSegment(from.v4, p.v4, tcpACK, 0, 0, string(make([]byte, 2*size+last))), size)
		w.d.nextEvent()
		w.expectHeld(p, Activity{Held: 3})
		w.d.mustOpen(p.id)
		w.expectHeld(p, Activity{TxPackets: 3, Held: 3, Replayed: 3})
	}
}

// TestPacketInPieces brings in packets of which only the first byte lies where
// the program can read it at once.
func TestPacketInPieces(t *testing.T) {
	w := newOffloading(t, AttachAuto)
	p := w.newPeer()
	large := string(make([]byte, 6000)) // smaller ones are put in one piece
	for _, packet := range [][]byte{udp(p.v4, w.dev.host(p.v4), large), udp(p.v6, w.dev.host(p.v6), large)} {
		w.d.mustArm(p.id, false)
		counted := w.d.counts(p.id)
		header := make([]byte, vnetHeader)
		binary.NativeEndian.PutUint16(header[2:], 1) // headers, as far as the device knows
		w.dev.write(append(header, packet...))
		counted.expect(Ingress, p.id, 1, len(packet), Stats{})
		if flow, _ := parse(packet); w.d.nextEvent().Flow != flow {
			t.Errorf("event of another flow than %s", flow)
		}
	}
}
