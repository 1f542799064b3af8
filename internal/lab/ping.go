// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// Ping sends one echo request from the host and waits for the reply; see [Pinger.Ping].
func (h *Host) Ping(ctx context.Context, to netip.Addr) (time.Duration, error) {
	p, err := h.NewPinger(to)
	if err != nil {
		return 0, err
	}
	defer p.Close()
	return p.Ping(ctx)
}

// Pinger sends ICMP echo requests to one address, IPv4 or IPv6. Its methods can be used by several goroutines at once.
type Pinger struct {
	to     netip.Addr
	family *icmpFamily
	conn   *net.IPConn
	token  uint64 // tells its replies from other pingers'
	ended  chan struct{}

	mu       sync.Mutex // guards what follows
	stats    PingStats
	last     uint16                    // sequence number
	waiting  map[uint16]chan<- outcome // by sequence number
	answered map[uint16]bool
}

// PingStats counts what a [Pinger] did.
type PingStats struct {
	Sent       int // requests that the kernel took
	Received   int // requests that were answered
	Duplicates int // replies to a request that had been answered
}

type outcome struct {
	at  time.Time
	err error
}

// icmpFamily is what differs between ICMP and ICMPv6.
type icmpFamily struct {
	network        string
	protocol       int
	request, reply icmp.Type
	level, recvErr int
}

var (
	icmpV4 = icmpFamily{"ip4:1", 1, ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply, unix.SOL_IP, unix.IP_RECVERR}
	icmpV6 = icmpFamily{"ip6:58", 58, ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply, unix.SOL_IPV6, unix.IPV6_RECVERR}
)

// NewPinger makes a pinger on the host.
func (h *Host) NewPinger(to netip.Addr) (*Pinger, error) {
	p := &Pinger{
		to:       to,
		family:   &icmpV4,
		token:    rand.Uint64(),
		ended:    make(chan struct{}),
		waiting:  make(map[uint16]chan<- outcome),
		answered: make(map[uint16]bool),
	}
	if to.Is6() {
		p.family = &icmpV6
	}

	dialer := net.Dialer{Control: p.family.receiveErrors}
	err := h.Do(func() (err error) {
		p.conn, err = dialer.DialIP(context.Background(), p.family.network, netip.Addr{}, to)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ping %s: %w", to, err)
	}
	go p.receive()
	return p, nil
}

// receiveErrors asks for what the kernel would not tell a raw socket: that a packet was dropped on its way out of the host,
// and what ICMP errors came back.
func (f *icmpFamily) receiveErrors(_, _ string, raw syscall.RawConn) (err error) {
	controlErr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), f.level, f.recvErr, 1)
	})
	return errors.Join(controlErr, err)
}

// Close ends the pinger. Nobody may be waiting for a reply.
func (p *Pinger) Close() error {
	err := p.conn.Close()
	<-p.ended
	return err
}

// Stats returns what was counted so far.
func (p *Pinger) Stats() PingStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}

// Ping sends one request and waits for the reply; it returns the round-trip time.
//
// The error is [unix.ENOBUFS] if the packet was dropped on its way out of the host, which a program that does not ask for it
// never learns, [unix.EHOSTUNREACH] and its like if an ICMP error came back, and the context's if nothing came in time.
// One socket serves all of a pinger's requests, so an ICMP error fails all that are waiting.
func (p *Pinger) Ping(ctx context.Context) (time.Duration, error) {
	result := make(chan outcome, 1)
	seq := p.expect(result)
	sent := time.Now()
	if err := p.send(seq); err != nil {
		p.take(seq)
		if !errors.Is(err, unix.ENOBUFS) {
			p.fail(err) // it may be an ICMP error meant for another request, and is told only once
		}
		return 0, fmt.Errorf("ping %s: %w", p.to, err)
	}
	select {
	case o := <-result:
		if o.err != nil {
			return 0, fmt.Errorf("ping %s: %w", p.to, o.err)
		}
		return o.at.Sub(sent), nil
	case <-ctx.Done():
		p.take(seq)
		return 0, fmt.Errorf("ping %s: no reply: %w", p.to, ctx.Err())
	}
}

// expect numbers a request and says where its outcome goes, which must not block.
func (p *Pinger) expect(result chan<- outcome) (seq uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last++
	p.waiting[p.last] = result
	delete(p.answered, p.last) // the one 65536 requests ago
	return p.last
}

// take makes the caller the only one to settle the request, and returns nil if another has.
func (p *Pinger) take(seq uint16) chan<- outcome {
	p.mu.Lock()
	defer p.mu.Unlock()
	result := p.waiting[seq]
	delete(p.waiting, seq)
	return result
}

func (p *Pinger) fail(err error) {
	p.mu.Lock()
	failed := p.waiting
	p.waiting = make(map[uint16]chan<- outcome)
	p.mu.Unlock()
	for _, result := range failed {
		result <- outcome{err: err}
	}
}

func (p *Pinger) send(seq uint16) error {
	request := icmp.Message{Type: p.family.request, Body: &icmp.Echo{
		ID:   int(uint16(p.token)),
		Seq:  int(seq),
		Data: binary.BigEndian.AppendUint64(nil, p.token),
	}}
	packet, err := request.Marshal(nil) // the kernel adds ICMPv6's checksum
	if err != nil {
		return err
	}
	if _, err := p.conn.Write(packet); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Sent++
	return nil
}

// receive hands replies and errors to those who wait, until the socket is closed.
func (p *Pinger) receive() {
	defer close(p.ended)
	buf := make([]byte, 1<<16)
	for {
		n, _, err := p.conn.ReadFromIP(buf)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			p.drainErrors()
			p.fail(err)
		default:
			p.accept(buf[:n], time.Now())
		}
	}
}

// drainErrors empties the socket's error queue: reading tells what the error is, but leaves it there, where it takes up room
// that replies need.
func (p *Pinger) drainErrors() {
	raw, err := p.conn.SyscallConn()
	if err != nil {
		return // closed
	}
	_ = raw.Control(func(fd uintptr) {
		for err := error(nil); err == nil; {
			_, _, _, _, err = unix.Recvmsg(int(fd), nil, nil, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		}
	})
}

// accept takes a packet that reached the socket: a reply, or any other ICMP message from that address.
func (p *Pinger) accept(packet []byte, at time.Time) {
	message, err := icmp.ParseMessage(p.family.protocol, packet)
	if err != nil || message.Type != p.family.reply {
		return
	}
	echo, ok := message.Body.(*icmp.Echo)
	if !ok || len(echo.Data) != 8 || binary.BigEndian.Uint64(echo.Data) != p.token {
		return
	}
	seq := uint16(echo.Seq)
	p.count(seq)
	if result := p.take(seq); result != nil {
		result <- outcome{at: at}
	}
}

func (p *Pinger) count(seq uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.answered[seq] {
		p.stats.Duplicates++
		return
	}
	p.answered[seq] = true
	p.stats.Received++
}
