// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// Echo is a server that sends back what it receives.
type Echo struct {
	// IPv4 and IPv6 are where it serves both TCP and UDP: the host's overlay addresses and one port.
	IPv4, IPv6 netip.AddrPort

	sockets []io.Closer
	hangUp  context.CancelFunc // ends the TCP connections
	serving sync.WaitGroup
}

// ServeEcho starts an echo server on the host, on a port that is free.
func (h *Host) ServeEcho() (*Echo, error) {
	var errs []error
	// The port that is free for the first of the four sockets can be another's for the next.
	for range 10 {
		e, err := h.tryEcho()
		if err == nil {
			return e, nil
		}
		errs = append(errs, err)
		if !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	return nil, fmt.Errorf("lab: serve echo on %s: %w", h.Name, errors.Join(errs...))
}

func (h *Host) tryEcho() (*Echo, error) {
	ctx, cancel := context.WithCancel(context.Background())
	e := &Echo{hangUp: cancel}
	err := e.listen(ctx, h)
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// Close ends the server and its connections.
func (e *Echo) Close() error {
	var errs []error
	for _, s := range e.sockets {
		errs = append(errs, s.Close())
	}
	e.hangUp()
	e.serving.Wait()
	return errors.Join(errs...)
}

func (e *Echo) listen(ctx context.Context, h *Host) (err error) {
	if e.IPv4, err = e.listenOn(ctx, h, netip.AddrPortFrom(h.IPv4, 0)); err != nil {
		return err
	}
	e.IPv6, err = e.listenOn(ctx, h, netip.AddrPortFrom(h.IPv6, e.IPv4.Port()))
	return err
}

// listenOn serves TCP and UDP on an address and returns it with the port that the kernel chose if it had none.
func (e *Echo) listenOn(ctx context.Context, h *Host, addr netip.AddrPort) (netip.AddrPort, error) {
	tcp, err := h.ListenTCP(addr)
	if err != nil {
		return addr, err
	}
	e.sockets = append(e.sockets, tcp)
	e.serving.Go(func() { e.serveTCP(ctx, tcp) })

	addr = tcp.Addr().(*net.TCPAddr).AddrPort()
	udp, err := h.ListenUDP(addr)
	if err != nil {
		return addr, err
	}
	e.sockets = append(e.sockets, udp)
	e.serving.Go(func() { serveUDP(udp) })
	return addr, nil
}

func (e *Echo) serveTCP(ctx context.Context, listener *net.TCPListener) {
	for {
		conn, err := listener.AcceptTCP()
		if err != nil {
			return
		}
		e.serving.Go(func() {
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			_, _ = io.Copy(conn, conn) // however it ends, the client sees it
		})
	}
}

func serveUDP(conn *net.UDPConn) {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_, _ = conn.WriteToUDPAddrPort(buf[:n], from) // a datagram may get lost
		}
	}
}
