// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/pkg/detect"
)

// tally counts packets.
type tally struct {
	sent, answered int
	doubled        int // answered once more
	sentAgain      int // by TCP
}

func (t *tally) add(other tally) {
	t.sent += other.sent
	t.answered += other.answered
	t.doubled += other.doubled
	t.sentAgain += other.sentAgain
}

// good says that every packet arrived, once, at the first try.
func (t tally) good() bool { return t.answered == t.sent && t.doubled == 0 && t.sentAgain == 0 }

func (t tally) String() string {
	return fmt.Sprintf("%d first packets: %d lost, %d doubled, %d sent again by TCP",
		t.sent, t.sent-t.answered, t.doubled, t.sentAgain)
}

// pingTalk is an ICMP echo, which the far kernel answers.
type pingTalk struct {
	*lab.Pinger
	source, to netip.Addr
}

func openPing(from *lab.Host, source, to netip.Addr) (talk, error) {
	pinger, err := from.NewPinger(to)
	return &pingTalk{pinger, source, to}, err
}

func (t *pingTalk) ask(ctx context.Context) (time.Duration, error) { return t.Ping(ctx) }

func (t *pingTalk) flow() detect.Flow {
	f := detect.Flow{
		Protocol:    unix.IPPROTO_ICMP,
		Source:      netip.AddrPortFrom(t.source, 0),
		Destination: netip.AddrPortFrom(t.to, 0),
	}
	if t.to.Is6() {
		f.Protocol = unix.IPPROTO_ICMPV6
	}
	return f
}

func (t *pingTalk) tally() tally {
	s := t.Stats()
	return tally{sent: s.Sent, answered: s.Received, doubled: s.Duplicates}
}

// payload is what the echo server is asked to send back.
var payload = []byte("does a sleeping peer answer?")

// udpTalk is a datagram to the echo server.
type udpTalk struct {
	conn   *net.UDPConn
	counts tally
}

func openUDP(from *lab.Host, to netip.AddrPort) (talk, error) {
	conn, err := from.DialUDP(to)
	return &udpTalk{conn: conn}, err
}

func (t *udpTalk) ask(ctx context.Context) (time.Duration, error) {
	defer heed(ctx, t.conn)()
	begin := time.Now()
	if _, err := t.conn.Write(payload); err != nil {
		return 0, err
	}
	t.counts.sent++
	if err := t.receive(); err != nil {
		return 0, errors.Join(ctx.Err(), err)
	}
	t.counts.answered++
	return time.Since(begin), nil
}

func (t *udpTalk) receive() error {
	buf := make([]byte, 2*len(payload))
	n, err := t.conn.Read(buf)
	if err == nil && !bytes.Equal(buf[:n], payload) {
		err = fmt.Errorf("%q came back as %q", payload, buf[:n])
	}
	return err
}

func (t *udpTalk) flow() detect.Flow {
	return detect.Flow{
		Protocol:    unix.IPPROTO_UDP,
		Source:      t.conn.LocalAddr().(*net.UDPAddr).AddrPort(),
		Destination: t.conn.RemoteAddr().(*net.UDPAddr).AddrPort(),
	}
}

// tally takes from the socket what has arrived since the answer.
func (t *udpTalk) tally() tally {
	_ = t.conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond)) // fails only if the socket is closed
	for t.receive() == nil {
		t.counts.doubled++
	}
	return t.counts
}

func (t *udpTalk) Close() error { return t.conn.Close() }

// tcpTalk is a connection to the echo server. Asking opens it and closes it again, so that it is silent from then on.
type tcpTalk struct {
	from   *lab.Host
	to     netip.AddrPort
	source netip.AddrPort
	counts tally
}

func (t *tcpTalk) ask(ctx context.Context) (time.Duration, error) {
	t.counts.sent++
	begin := time.Now()
	conn, err := t.from.DialTCP(ctx, t.to)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	defer heed(ctx, conn)()
	t.source = conn.LocalAddr().(*net.TCPAddr).AddrPort()

	answer := make([]byte, len(payload))
	_, writeErr := conn.Write(payload)
	_, readErr := io.ReadFull(conn, answer)
	took := time.Since(begin)
	if err := errors.Join(writeErr, readErr); err != nil {
		return 0, errors.Join(ctx.Err(), err)
	}
	if !bytes.Equal(answer, payload) {
		return 0, fmt.Errorf("%q came back as %q", payload, answer)
	}
	t.counts.answered++
	return took, t.hangUp(conn)
}

// hangUp waits until the other end has closed the connection as well.
func (t *tcpTalk) hangUp(conn *net.TCPConn) error {
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, conn); err != nil {
		return err
	}
	again, err := lab.Retransmits(conn)
	t.counts.sentAgain += int(again)
	return err
}

func (t *tcpTalk) flow() detect.Flow {
	return detect.Flow{Protocol: unix.IPPROTO_TCP, Source: t.source, Destination: t.to}
}

func (t *tcpTalk) tally() tally { return t.counts }

func (t *tcpTalk) Close() error { return nil }

// heed makes the connection's reads and writes fail when ctx is done, until the function it returns is called.
func heed(ctx context.Context, conn net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
}
