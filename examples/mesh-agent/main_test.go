// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
)

// negotiation is how long the agent takes for an endpoint.
const negotiation = 300 * time.Millisecond

// TestFirstPackets wakes There by packets to it while WireGuard has no endpoint of it, or a stale one. They wait for the
// endpoint; all of them come, in order, and none twice.
//
//	Here, with mesh-agent               There
//	no endpoint, or 198.18.1.2:9 ────── veth1b 198.18.1.2:51821, as the directory says
func TestFirstPackets(t *testing.T) {
	n := labtest.Network(t, lab.Options{ThereHasNoEndpoint: true})
	e, err := n.There.ServeEcho()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	reset(t, n, nil)
	a := start(t, n, "-threshold=1s")
	stale := &net.UDPAddr{IP: n.There.UnderlayIPv4.AsSlice(), Port: 9}
	for _, step := range []struct {
		name     string
		endpoint *net.UDPAddr
		// talk returns when the first answer came.
		talk func(*testing.T, *lab.Network, netip.AddrPort) time.Time
	}{
		{"UDP, no endpoint", nil, exchange},
		{"ICMP, stale endpoint", stale, ping},
		{"TCP, stale endpoint", stale, connect},
		{"UDP, stale endpoint", stale, exchange},
	} {
		t.Run(step.name, func(t *testing.T) {
			a.awaitKeepalive(n.There.PublicKey, 0)
			reset(t, n, step.endpoint)
			begin := time.Now()
			first := step.talk(t, n, e.IPv4).Sub(begin)
			t.Log("first answer after", first)
			if first < negotiation {
				t.Errorf("first answer after %v, before the agent can know the endpoint", first)
			}
			a.checkEndpoint(n.There.PublicKey, n.There.Endpoint)
		})
	}
}

// reset gives Here another There: one of that endpoint, nil for none, and without keepalive and session.
func reset(t *testing.T, n *lab.Network, endpoint *net.UDPAddr) {
	t.Helper()
	p := peerOf(t, n.Here, n.There.PublicKey)
	configure(t, n.Here, wgtypes.PeerConfig{PublicKey: p.PublicKey, Remove: true},
		wgtypes.PeerConfig{PublicKey: p.PublicKey, Endpoint: endpoint, AllowedIPs: p.AllowedIPs})
}

// exchange has numbered datagrams echoed. Their order is to be seen where Here hands them to WireGuard: wireguard-go changes
// it now and then.
func exchange(t *testing.T, n *lab.Network, to netip.AddrPort) (first time.Time) {
	const datagrams = 50
	passed := tap(t, n.Here.Name)
	conn, err := n.Here.DialUDP(to)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	times := make(map[uint32]int)
	await := func(number uint32) {
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		for buffer := make([]byte, 4); times[number] == 0; {
			if _, err := io.ReadFull(conn, buffer); err != nil {
				t.Fatalf("datagram %d is lost: %v", number, err)
			}
			if first.IsZero() {
				first = time.Now()
			}
			times[binary.BigEndian.Uint32(buffer)]++
		}
	}
	send := func(number uint32) {
		if _, err := conn.Write(binary.BigEndian.AppendUint32(nil, number)); err != nil {
			t.Errorf("send datagram %d: %v", number, err)
		}
	}
	for number := range uint32(datagrams) {
		send(number)
	}
	for number := range uint32(datagrams) {
		await(number)
	}
	send(datagrams) // what came twice comes before its echo
	await(datagrams)
	for number, n := range times {
		if n != 1 {
			t.Errorf("datagram %d came back %d times", number, n)
		}
	}
	if numbers := passed(); len(numbers) != datagrams+1 || !slices.IsSorted(numbers) {
		t.Errorf("to WireGuard went %d", numbers)
	}
	return first
}

// tap listens on an interface. What it returns gives the numbers of the datagrams over IPv4 that went to it so far.
func tap(t *testing.T, name string) (numbers func() []uint32) {
	t.Helper()
	device, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	everything := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everything, Ifindex: device.Index}); err != nil {
		t.Fatal(err)
	}
	return func() (passed []uint32) {
		const headers = 20 + 8 // IPv4 and UDP
		for packet := make([]byte, 1<<16); ; {
			n, from, err := unix.Recvfrom(fd, packet, 0)
			if errors.Is(err, unix.EAGAIN) {
				return passed
			}
			if err != nil {
				t.Fatal(err)
			}
			outgoing := from.(*unix.SockaddrLinklayer).Pkttype == unix.PACKET_OUTGOING
			if outgoing && n == headers+4 && packet[0]>>4 == 4 && packet[9] == unix.IPPROTO_UDP {
				passed = append(passed, binary.BigEndian.Uint32(packet[headers:]))
			}
		}
	}
}

func ping(t *testing.T, n *lab.Network, to netip.AddrPort) (first time.Time) {
	p, err := n.Here.NewPinger(to.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for range 2 { // the second's reply comes behind whatever came twice
		if _, err := p.Ping(soon(t)); err != nil {
			t.Fatal(err)
		}
		if first.IsZero() {
			first = time.Now()
		}
	}
	if got, want := p.Stats(), (lab.PingStats{Sent: 2, Received: 2}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	return first
}

func connect(t *testing.T, n *lab.Network, to netip.AddrPort) (first time.Time) {
	conn, err := n.Here.DialTCP(soon(t), to)
	if err != nil {
		t.Fatal(err)
	}
	first = time.Now()
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, err = conn.Write([]byte("hello"))
	answer, readErr := []byte(nil), conn.CloseWrite()
	if readErr == nil {
		answer, readErr = io.ReadAll(conn)
	}
	if err := errors.Join(err, readErr); err != nil || string(answer) != "hello" {
		t.Errorf("%q came back: %v", answer, err)
	}
	return first
}

// TestRoaming has There move to another port and talk to Here from it: while it sleeps, and while the agent negotiates. The
// directory still has the old endpoint, but WireGuard has just learned the new one.
func TestRoaming(t *testing.T) {
	n := labtest.Network(t, lab.Options{})
	a := start(t, n, "-threshold=1s")
	talk := func(from, to *lab.Host) {
		t.Helper()
		if _, err := from.Ping(soon(t), to.IPv4); err != nil {
			t.Fatal(err)
		}
	}
	move := func() netip.AddrPort {
		t.Helper()
		a.awaitKeepalive(n.There.PublicKey, 0)
		device, err := n.There.Device()
		if err != nil {
			t.Fatal(err)
		}
		port := device.ListenPort + 1000
		if err := n.There.Configure(wgtypes.Config{ListenPort: &port}); err != nil {
			t.Fatal(err)
		}
		return netip.AddrPortFrom(n.There.UnderlayIPv4, uint16(port))
	}
	talk(n.Here, n.There)
	a.await("INFO connected .*reason=egress", 1)

	ask := a.directoryThatAsks() // nobody answers the agent if it asks at the wrong time
	moved := move()
	talk(n.There, n.Here)
	a.await("INFO connected .*reason=ingress", 1)
	a.checkEndpoint(n.There.PublicKey, moved)

	moved = move()
	reply := make(chan error, 1)
	go func() {
		_, err := n.Here.Ping(soon(t), n.There.IPv4)
		reply <- err
	}()
	answer := ask()
	talk(n.There, n.Here)
	if err := <-reply; err != nil {
		t.Error("the held packet:", err)
	}
	answer()
	a.await("INFO connected .*reason=egress", 2)
	a.checkEndpoint(n.There.PublicKey, moved)
}

// TestSignals tells the agent what a mesh VPN hears, and ends it as Ctrl-C does. Beside There the interface has another router
// of There's network, a peer that is excluded and one that is not in the directory. None of these exists.
func TestSignals(t *testing.T) {
	n := labtest.Network(t, lab.Options{})
	there, router, excluded, unknown := n.There.PublicKey, stranger(t), stranger(t), stranger(t)
	reset(t, n, nil)
	for i, key := range []wgtypes.Key{router, excluded, unknown} {
		configure(t, n.Here, wgtypes.PeerConfig{
			PublicKey:                   key,
			AllowedIPs:                  []net.IPNet{{IP: net.IPv4(10, 99, 0, byte(i)), Mask: net.CIDRMask(32, 32)}},
			PersistentKeepaliveInterval: new(20 * time.Second),
		})
	}
	nowhere := netip.AddrPortFrom(n.There.UnderlayIPv4, 9)
	checkTraces(t, n, false)
	a := startWith(t, n, fmt.Sprintf("%s %s office\n%s %s office\n%s %s\n",
		there, n.There.Endpoint, router, nowhere, excluded, nowhere), "-threshold=1h", "-exclude="+excluded.String())
	checkTraces(t, n, true)
	a.awaitKeepalive(excluded, 25*time.Second)
	a.checkEndpoint(excluded, nowhere)
	a.awaitKeepalive(there, 0)
	a.awaitKeepalive(router, 0)
	a.checkEndpoint(router, netip.AddrPort{})

	a.hear("remote-wakes", there)
	a.awaitKeepalive(there, 25*time.Second)
	a.awaitKeepalive(router, 25*time.Second)
	a.checkEndpoint(router, nowhere)
	a.await("INFO connected .*reason=group", 1)

	a.await("INFO connected .*reason=request", 2) // There and the excluded one
	a.hear("disconnected", there)
	a.await("INFO connecting peer="+short(there), 2)
	a.hear("connected", there)
	a.await("INFO connected peer="+short(there), 2)
	a.hear("remote-sleeps", there)
	a.awaitKeepalive(there, 0)
	a.hear("remote-sleeps", excluded)
	a.await("remote-sleeps .*it is permanent", 1)

	a.interrupt()
	checkTraces(t, n, false)
	for key, want := range map[wgtypes.Key]time.Duration{
		there: 0, router: 25 * time.Second, excluded: 25 * time.Second, unknown: 20 * time.Second,
	} {
		if got := peerOf(t, n.Here, key).PersistentKeepaliveInterval; got != want {
			t.Errorf("keepalive %v after the agent, want %v", got, want)
		}
	}
	if _, err := n.Here.Ping(soon(t), n.There.IPv4); err != nil {
		t.Error("without the agent:", err)
	}
}

// checkTraces fails the test unless there is a detector on Here's interface, or nothing at all of one.
func checkTraces(t *testing.T, n *lab.Network, want bool) {
	t.Helper()
	device, err := netlink.LinkByName(n.Here.Name)
	if err != nil {
		t.Fatal(err)
	}
	index, hooks := device.Attrs().Index, 0
	for _, hook := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
		programs, err := labtest.TCXPrograms(index, hook)
		if err != nil {
			t.Fatal(err)
		}
		hooks += len(programs)
	}
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		filters, err := netlink.FilterList(device, parent)
		if err != nil {
			t.Fatal(err)
		}
		hooks += len(filters)
	}
	_, err = netlink.LinkByName(fmt.Sprintf("lazy%d", index))
	if parking := err == nil; parking != want || hooks != 0 != want {
		t.Errorf("%d programs and filters, parking device: %v; want any: %v", hooks, parking, want)
	}
}
