// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net"
	"net/netip"
	"testing"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
)

// TestFirstPacket wakes a peer by the first packet to it, of which the application must notice nothing: none is lost or comes
// twice, and no sender hears that one was dropped.
func TestFirstPacket(t *testing.T) {
	for name, start := range subjects {
		for modeName, mode := range wakeModes {
			t.Run(name+"/"+modeName, func(t *testing.T) {
				n := labtest.Network(t, lab.Options{Keepalive: keepalive})
				e := serveEcho(t, n)
				s := start(t, n, mode)
				for protocol, talk := range map[string]func(*testing.T, *lab.Network, netip.AddrPort){
					"ICMP": ping, "TCP": connect, "UDP": exchange,
				} {
					for family, to := range map[string]netip.AddrPort{"IPv4": e.IPv4, "IPv6": e.IPv6} {
						t.Run(protocol+"/"+family, func(t *testing.T) {
							forget(t, n, s)
							before := s.figures()
							talk(t, n, to)
							awaitWake(t, s, before, mode)
							awaitKeepalive(t, n, keepalive)
						})
					}
				}
			})
		}
	}
}

// ping sends an echo request, and a second one behind the first's reply and whatever came twice.
func ping(t *testing.T, n *lab.Network, to netip.AddrPort) {
	p, err := n.Here.NewPinger(to.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for range 2 {
		rtt, err := p.Ping(soon(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Log("round trip", rtt)
	}
	if got, want := p.Stats(), (lab.PingStats{Sent: 2, Received: 2}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// connect opens a TCP connection, has a line echoed and closes it.
func connect(t *testing.T, n *lab.Network, to netip.AddrPort) {
	conn, err := n.Here.DialTCP(soon(t), to)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	checkUnharmed(t, conn)
	echo(t, conn, []byte("hello"))
	checkUnharmed(t, conn)
	hangUp(t, conn)
}

// checkUnharmed fails the test if TCP has noticed that something was lost, late or doubled: then it sends segments again, and
// with less confidence.
func checkUnharmed(t *testing.T, conn *net.TCPConn) {
	t.Helper()
	const (
		initialWindow = 10         // segments: RFC 6928
		infinite      = 0x7fffffff // TCP_INFINITE_SSTHRESH of the kernel: no loss so far
	)
	info, err := lab.TCPInfo(conn)
	if err != nil {
		t.Fatal(err)
	}
	if info.Total_retrans != 0 || info.Dsack_dups != 0 {
		t.Errorf("%d segments were sent again, %d came twice", info.Total_retrans, info.Dsack_dups)
	}
	if info.Snd_cwnd < initialWindow || info.Snd_ssthresh != infinite {
		t.Errorf("congestion window %d, slow start threshold %d", info.Snd_cwnd, info.Snd_ssthresh)
	}
}

// exchange has a datagram echoed.
func exchange(t *testing.T, n *lab.Network, to netip.AddrPort) {
	s := newStream(t, n, to)
	s.send(0)
	s.await(0)
	s.finish(1)
}
