// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/pkg/control"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// addToDevice adds made-up peers to Here's WireGuard. They have no endpoint and
// no keepalive.
func addToDevice(b testing.TB, n *lab.Network, peers int) {
	b.Helper()
	config := wgtypes.Config{Peers: make([]wgtypes.PeerConfig, peers)}
	for peer := range config.Peers {
		config.Peers[peer] = wgtypes.PeerConfig{
			PublicKey: wgtypes.Key(keyOf(peer)), AllowedIPs: []net.IPNet{*ipNet(prefixOf(peer))},
		}
	}
	if err := n.Here.Configure(config); err != nil {
		b.Fatal(err)
	}
}

func removeFromDevice(b testing.TB, n *lab.Network, peers int) {
	b.Helper()
	config := wgtypes.Config{Peers: make([]wgtypes.PeerConfig, peers)}
	for peer := range config.Peers {
		config.Peers[peer] = wgtypes.PeerConfig{PublicKey: wgtypes.Key(keyOf(peer)), Remove: true}
	}
	if err := n.Here.Configure(config); err != nil {
		b.Error(err)
	}
}

// BenchmarkStart is how long the daemon takes to start beyond reading the device
// once, with all peers dormant: with wireguard-go, which takes no more than 2^16
// peers, and with a device that only answers as wireguard-go does.
func BenchmarkStart(b *testing.B) {
	measure := func(b *testing.B, device string) {
		var s started
		for b.Loop() {
			c := startChild(b, order{Interface: device})
			s = c.started
			c.stop()
		}
		b.ReportMetric(s.Read.Seconds(), "read-s")
		b.ReportMetric((s.Start - s.Read).Seconds(), "beyond-s")
		b.ReportMetric((s.StartCPU - s.ReadCPU).Seconds(), "beyond-cpu-s")
		b.ReportMetric(0, "ns/op")
	}
	b.Run("wireguard/peers=60000", func(b *testing.B) {
		n := newNetwork(b)
		addToDevice(b, n, sized(60_000))
		measure(b, n.Here.Name)
	})
	b.Run("standin/peers=100000", func(b *testing.B) {
		s := newStandin(b, sized(100_000), 0)
		defer s.close(b)
		measure(b, s.name)
	})
}

// BenchmarkDaemon is what the daemon takes while 100 peers talk and all others
// are dormant: memory, and time. Reading the device again and again is counted
// for itself.
func BenchmarkDaemon(b *testing.B) {
	const connected = 100
	peers := sized(100_000) + connected
	for b.Loop() {
		s := newStandin(b, peers, connected)
		c := startChild(b, order{Interface: s.name})
		begin := c.cpu()
		s.awaitReading(b, c)
		check := c.cpu() - begin
		from, begin := time.Now(), c.cpu()
		calls := countSyscalls(b, c.cmd.Process.Pid)
		for undisturbed := false; !undisturbed; {
			if time.Since(from) > patience {
				b.Fatal("there is no time between two readings")
			}
			before, counted := s.readings.Load(), calls.total(b)
			packets, cpu := s.steady(b, c, connected)
			undisturbed = s.readings.Load() == before
			b.ReportMetric(100*cpu, "cpu-%")
			b.ReportMetric(float64(calls.total(b)-counted)/float64(packets), "calls/packet")
		}
		calls.close()
		s.awaitReading(b, c)
		b.ReportMetric(check.Seconds(), "drift-cpu-s")
		b.ReportMetric(100*(c.cpu()-begin).Seconds()/time.Since(from).Seconds(), "drift-cpu-%")
		m := c.memory()
		b.ReportMetric(float64(m.Maps)/float64(peers), "kernel-B/peer")
		b.ReportMetric(float64(m.Heap+m.Stacks)/float64(peers), "process-B/peer")
		b.ReportMetric(float64(m.Maps+m.Heap+m.Stacks)/float64(peers), "B/peer")
		b.ReportMetric(float64(c.inPlace("VmRSS:"))/float64(peers), "rss-B/peer")
		b.ReportMetric(float64(c.inPlace("VmHWM:"))/float64(peers), "peak-B/peer")
		c.stop()
		s.close(b)
	}
	b.ReportMetric(0, "ns/op")
}

// awaitReading waits until the daemon has read the device again, and has nothing
// more to do with it.
func (s *standin) awaitReading(b testing.TB, c *child) {
	b.Helper()
	readings := s.readings.Load()
	await(b, "the device is read again", func() bool { return s.readings.Load() > readings })
	var quiet time.Duration
	for last := time.Duration(-1); quiet < 5 && c.cpu() != last; quiet++ {
		last = c.cpu()
		time.Sleep(time.Second)
	}
}

// steady has some peers talked to for a while, and returns how many packets that
// took, and the share of a core that the daemon did.
func (s *standin) steady(b testing.TB, c *child, connected int) (packets int, cpu float64) {
	b.Helper()
	span := 10 * time.Second
	if testing.Short() { // and the few peers are read often
		span = time.Second
	}
	sockets := make([]*net.UDPConn, connected)
	for peer := range sockets {
		var err error
		sockets[peer], err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(addressOf(peer), 9)))
		if err != nil {
			b.Fatal(err)
		}
		defer sockets[peer].Close()
	}
	begin, from := c.cpu(), time.Now()
	for time.Since(from) < span {
		for _, socket := range sockets {
			if _, err := socket.Write([]byte("a packet")); err == nil { // else the device's queue is full
				packets++
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return packets, (c.cpu() - begin).Seconds() / time.Since(from).Seconds()
}

// BenchmarkStatus is how long `status -o json` waits for the daemon's answer.
func BenchmarkStatus(b *testing.B) {
	const samples = 20
	n := newNetwork(b)
	addToDevice(b, n, sized(10_000))
	var took []time.Duration
	var cpu time.Duration
	for b.Loop() {
		c := startChild(b, order{Interface: n.Here.Name})
		cpu -= c.cpu()
		client := control.NewClient(control.Path(n.Here.Name))
		for range samples {
			begin := time.Now()
			if err := client.CopyStatus(b.Context(), io.Discard, control.Filter{}); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(begin))
		}
		cpu += c.cpu()
		c.stop()
	}
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2].Seconds()*1000, "p50-ms")
	b.ReportMetric(cpu.Seconds()*1000/float64(len(took)), "cpu-ms")
	b.ReportMetric(took[len(took)-1].Seconds()*1000, "max-ms")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkWakeAll wakes very many peers at once, each by a packet, in hold mode,
// with the connector that the daemon has: it turns the peer's keepalive on. For
// comparison wgctrl alone does so for one peer after the other, before and after.
// Either way WireGuard makes one handshake initiation for each peer.
func BenchmarkWakeAll(b *testing.B) {
	peers := sized(10_000)
	n := newNetwork(b)
	var alone, woken time.Duration
	for b.Loop() {
		alone += configureAll(b, n, peers) / 2
		woken += wakeAll(b, n, peers)
		alone += configureAll(b, n, peers) / 2
	}
	b.ReportMetric(float64(b.N*peers)/woken.Seconds(), "woken/s")
	b.ReportMetric(float64(b.N*peers)/alone.Seconds(), "wgctrl/s")
	b.ReportMetric(alone.Seconds()/woken.Seconds(), "woken/wgctrl")
	b.ReportMetric(0, "ns/op")
}

const keepalive = 25 * time.Second

// wakeAll returns how long it takes until all peers are connected, and the device
// has their keepalives.
func wakeAll(b testing.TB, n *lab.Network, peers int) time.Duration {
	b.Helper()
	addToDevice(b, n, peers)
	defer removeFromDevice(b, n, peers)
	c := startChild(b, order{Interface: n.Here.Name, Wake: lazy.WakeHold, Dormant: peers, Keepalive: keepalive})
	defer c.stop()
	begin := time.Now()
	for peer := range peers {
		talk(b, n, peer)
	}
	for range peers {
		var connected time.Duration
		c.hear(&connected)
	}
	for deadline := begin.Add(patience); keptAlive(b, n) < peers; {
		if time.Now().After(deadline) {
			b.Fatal("not all keepalives were set")
		}
	}
	return time.Since(begin)
}

// keptAlive is how many peers of the device have the keepalive.
func keptAlive(b testing.TB, n *lab.Network) (count int) {
	b.Helper()
	device, err := n.Here.Device()
	if err != nil {
		b.Fatal(err)
	}
	for _, p := range device.Peers {
		if p.PersistentKeepaliveInterval == keepalive {
			count++
		}
	}
	return count
}

// configureAll sets the keepalives of all peers, one after the other.
func configureAll(b testing.TB, n *lab.Network, peers int) time.Duration {
	b.Helper()
	addToDevice(b, n, peers)
	defer removeFromDevice(b, n, peers)
	begin := time.Now()
	for peer := range peers {
		err := n.Here.Configure(wgtypes.Config{Peers: []wgtypes.PeerConfig{{
			PublicKey: wgtypes.Key(keyOf(peer)), UpdateOnly: true, PersistentKeepaliveInterval: new(keepalive),
		}}})
		if err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(begin)
}
