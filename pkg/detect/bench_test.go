// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// benchAddress is that of the n-th of many peers.
func benchAddress(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 7000)
}

// newCrowd makes a rig with so many peers of one address each.
func newCrowd(b *testing.B, peers int) (d detector, ids []ID) {
	b.Helper()
	d = newRig(b, Options{Peers: peers})
	for n := range peers {
		ids = append(ids, d.mustAdd(single(benchAddress(n))))
	}
	return d, ids
}

// BenchmarkEgress measures what a packet costs that passes an open gate, as
// net-ns/packet: an empty program's cost is taken off.
func BenchmarkEgress(b *testing.B) {
	for _, peers := range []int{1, 1000, 100_000} {
		b.Run(fmt.Sprintf("peers=%d", peers), func(b *testing.B) {
			d, _ := newCrowd(b, peers)
			benchmarkProgram(b, d.tables.PeerEgress, udp(hostPort4, benchAddress(peers/2), "a packet"))
		})
	}
	// The peer of the packet is found last, by the shortest of these prefixes.
	for _, family := range []struct {
		name     string
		prefixes []string
		packet   []byte
	}{
		{"IPv4", []string{"10.1.0.1/32", "10.2.0.0/24", "10.3.0.0/16", "10.0.0.0/8"}, udp(hostPort4, benchAddress(1), "a packet")},
		{"IPv6", []string{"fd01::1/128", "fd02::/64", "fd03::/48", "fd00::/8"}, udp(hostPort6, peerPort6, "a packet")},
	} {
		b.Run("lengths=4/"+family.name, func(b *testing.B) {
			d := newRig(b, Options{})
			for _, p := range family.prefixes {
				d.mustAdd(netip.MustParsePrefix(p))
			}
			benchmarkProgram(b, d.tables.PeerEgress, family.packet)
		})
	}
}

// benchmarkProgram runs a program b.N times on a packet.
func benchmarkProgram(b *testing.B, program *ebpf.Program, packet []byte) {
	b.Helper()
	empty, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, pass), asm.Return()},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer empty.Close()
	cost := func(program *ebpf.Program) time.Duration {
		verdict, average, err := program.Benchmark(packet, b.N, b.ResetTimer)
		if err != nil {
			b.Fatal(err)
		}
		if int(int32(verdict)) != pass {
			b.Fatalf("verdict %d", int32(verdict))
		}
		return average
	}
	nothing := cost(empty)
	b.ResetTimer()
	b.ReportMetric(float64(cost(program)-nothing), "net-ns/packet")
}

func BenchmarkArm(b *testing.B) {
	d, ids := newCrowd(b, 100_000)
	b.ResetTimer()
	for n := range b.N {
		if err := d.Arm(ids[n%len(ids)], false); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkActivity(b *testing.B) {
	d, ids := newCrowd(b, 100_000)
	b.ResetTimer()
	for n := range b.N {
		if _, err := d.Activity(ids[n%len(ids)]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWake measures the way from a packet to the one who waits for its
// event.
func BenchmarkWake(b *testing.B) {
	d, ids := newCrowd(b, 1)
	packet := udp(hostPort4, benchAddress(0), "a packet")
	for b.Loop() {
		d.mustArm(ids[0], false)
		d.run(Egress, packet, skb{})
		d.nextEvent()
	}
}

// BenchmarkAdd measures a peer of one address, with what growing costs.
func BenchmarkAdd(b *testing.B) {
	d := newRig(b, Options{})
	b.ResetTimer()
	for n := range b.N {
		d.mustAdd(single(benchAddress(n % (1 << 24))))
	}
}

// BenchmarkHold measures a packet that is held, and then sent by Open.
func BenchmarkHold(b *testing.B) {
	w := newTunnel(b, Options{})
	p := w.newPeer()
	for b.Loop() {
		w.d.mustArm(p.id, true)
		w.send(p.v4, "held")
		w.d.nextEvent()
		w.d.mustOpen(p.id)
		w.dev.next()
	}
}
