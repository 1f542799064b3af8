// SPDX-License-Identifier: Apache-2.0

// Package baseline is the usual way to see that somebody talks to a dormant
// WireGuard peer, written to be measured beside lazybpf. It is in no product.
//
// Each dormant peer has a UDP socket of its own on loopback, a goroutine that
// reads it, and WireGuard believes that the peer is there: a fake endpoint. A
// packet to the peer makes WireGuard send a handshake initiation to the socket;
// that is the knock. WireGuard is then given the real endpoint. It tries again
// 5 seconds after the knock, unless the knock itself is sent on: see Reinject.
//
// NetBird's lazy connections on Linux are the best known system of this kind
// (client/internal/lazyconn/activity).
package baseline

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/lazybpf/lazybpf/internal/wg"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// Knock is the first packet that WireGuard has sent to a dormant peer.
type Knock struct {
	Peer lazy.Key
	// Initiation is the packet: WireGuard's handshake initiation.
	Initiation []byte
}

// initiationSize is that of a handshake initiation in the WireGuard paper.
const initiationSize = 148

// Listeners are the sockets of the dormant peers of one device, in the network
// namespace in which they are armed.
type Listeners struct {
	device *wg.Device
	knocks chan Knock
	done   chan struct{}

	mu      sync.Mutex // guards sockets
	sockets map[lazy.Key]*net.UDPConn
	readers sync.WaitGroup
}

// New makes listeners without peers. Without a device they leave WireGuard alone:
// then there is only what sockets and goroutines cost.
func New(device *wg.Device) *Listeners {
	return &Listeners{
		device:  device,
		knocks:  make(chan Knock, 1),
		done:    make(chan struct{}),
		sockets: make(map[lazy.Key]*net.UDPConn),
	}
}

// Knocks gives what comes for dormant peers, of each peer one packet. The peer is
// armed no longer.
func (l *Listeners) Knocks() <-chan Knock { return l.knocks }

// Arm makes a peer dormant: it gets a socket, and WireGuard its address as the
// peer's endpoint.
func (l *Listeners) Arm(peer lazy.Key) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sockets[peer] != nil {
		return nil
	}
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return fmt.Errorf("arm %s: %w", peer, err)
	}
	if l.device != nil {
		fake := socket.LocalAddr().(*net.UDPAddr).AddrPort()
		if err := l.device.Configure(wg.Change{Key: peer, Endpoint: fake}); err != nil {
			return errors.Join(fmt.Errorf("arm %s: %w", peer, err), socket.Close())
		}
	}
	l.sockets[peer] = socket
	l.readers.Go(func() { l.read(peer, socket) })
	return nil
}

// read waits for a peer's knock.
func (l *Listeners) read(peer lazy.Key, socket *net.UDPConn) {
	defer socket.Close()
	buffer := make([]byte, initiationSize)
	n, _, err := socket.ReadFromUDPAddrPort(buffer)
	if err != nil {
		return // disarmed
	}
	l.mu.Lock()
	delete(l.sockets, peer)
	l.mu.Unlock()
	select {
	case l.knocks <- Knock{Peer: peer, Initiation: buffer[:n]}:
	case <-l.done:
	}
}

// Open gives WireGuard the real endpoint of a peer.
func (l *Listeners) Open(peer lazy.Key, endpoint netip.AddrPort) error {
	return l.device.Configure(wg.Change{Key: peer, Endpoint: endpoint})
}

// Close disarms all peers.
func (l *Listeners) Close() {
	close(l.done)
	l.mu.Lock()
	for _, socket := range l.sockets {
		_ = socket.Close() // its reader may have done so
	}
	clear(l.sockets)
	l.mu.Unlock()
	l.readers.Wait()
}

// Reinject sends a knock to the peer's real endpoint as if it came from
// WireGuard's own port, so that the peer answers WireGuard. It spares the 5
// seconds, and takes a raw socket.
func Reinject(k Knock, port uint16, endpoint netip.AddrPort) error {
	socket, err := net.DialIP("ip4:udp", nil, &net.IPAddr{IP: endpoint.Addr().AsSlice()})
	if err != nil {
		return fmt.Errorf("reinject: %w", err)
	}
	defer socket.Close()
	const header = 8
	datagram := binary.BigEndian.AppendUint16(nil, port)
	datagram = binary.BigEndian.AppendUint16(datagram, endpoint.Port())
	datagram = binary.BigEndian.AppendUint16(datagram, uint16(header+len(k.Initiation)))
	datagram = append(datagram, 0, 0) // no checksum, as IPv4 allows
	_, err = socket.Write(append(datagram, k.Initiation...))
	return err
}
