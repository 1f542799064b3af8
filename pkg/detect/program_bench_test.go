// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// BenchmarkPacket measures what a packet costs that passes an open gate, as
// net-ns/packet: an empty program's cost is taken off.
func BenchmarkPacket(b *testing.B) {
	empty := newProgram(b)
	programs := func(b *testing.B, d detector, to, from []byte) {
		b.Run("egress", func(b *testing.B) { benchmarkNet(b, empty, d.tables.PeerEgress, to) })
		b.Run("ingress", func(b *testing.B) { benchmarkNet(b, empty, d.tables.PeerIngress, from) })
	}
	for _, peers := range []int{1, 1000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("peers=%d", peers), func(b *testing.B) {
			d, _ := newCrowd(b, peers)
			peer := benchAddress(peers / 2)
			programs(b, d, udp(hostPort4, peer, "a packet"), udp(peer, hostPort4, "a packet"))
		})
	}
	// The peer of the packet is found last, by the shortest of four lengths.
	for _, family := range []struct {
		name       string
		host, peer netip.AddrPort
		prefix     func(n int) netip.Prefix
	}{
		{"IPv4", hostPort4, benchAddress(0), func(n int) netip.Prefix {
			a := netip.AddrFrom4([4]byte{byte(11 + n>>16), byte(n >> 8), byte(n), 1})
			return netip.PrefixFrom(a, []int{32, 28, 24}[n%3]).Masked()
		}},
		{"IPv6", hostPort6, peerPort6, func(n int) netip.Prefix {
			a := netip.AddrFrom16([16]byte{0xfc, byte(n >> 16), byte(n >> 8), byte(n), 15: 1})
			return netip.PrefixFrom(a, []int{128, 64, 48}[n%3]).Masked()
		}},
	} {
		b.Run("lengths=4/"+family.name, func(b *testing.B) {
			const prefixes = 100_000
			d := newRig(b, Options{Peers: prefixes})
			for n := range prefixes {
				d.mustAdd(family.prefix(n))
			}
			d.mustAdd(netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8"))
			programs(b, d, udp(family.host, family.peer, "a packet"), udp(family.peer, family.host, "a packet"))
		})
	}
}

// BenchmarkPacketRandom has packets to random ones of very many peers, whose
// records no cache has, and, for comparison, to one of them. The last figure is
// what memory takes for a record alone, that of a random peer, when it is found
// without looking for it.
func BenchmarkPacketRandom(b *testing.B) {
	const peers = 1 << 20
	d, _ := newCrowd(b, peers)
	packet := udp(hostPort4, benchAddress(0), "a packet")
	for _, random := range []int{1, peers} {
		b.Run(fmt.Sprintf("peers=%d", random), func(b *testing.B) {
			benchmarkNet(b, newDice(b, random, newProgram(b)), newDice(b, random, d.tables.PeerEgress), packet)
		})
	}
	b.Run("record", func(b *testing.B) {
		roll := asm.Instructions{
			asm.FnGetPrandomU32.Call(),
			asm.And.Imm(asm.R0, peers-1),
			asm.StoreMem(asm.RFP, -8, asm.R0, asm.Word),
		}
		count := asm.Instructions{
			asm.LoadMapPtr(asm.R1, d.tables.Peers.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, -8),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "pass"),
			asm.Mov.Imm(asm.R1, 1),
			asm.AddAtomic.Mem(asm.R0, asm.R1, asm.DWord, 24),
		}
		benchmarkNet(b, newProgram(b, roll...), newProgram(b, append(roll, count...)...), packet)
	})
}

// BenchmarkFloor measures, as the others do, single things that a program could
// do for a packet.
func BenchmarkFloor(b *testing.B) {
	const entries = 100_000
	value := binary.NativeEndian.AppendUint64(nil, 1)
	hash := newBenchMap(b, &ebpf.MapSpec{Type: ebpf.Hash, KeySize: 8, ValueSize: 8, MaxEntries: entries})
	trie := newBenchMap(b, &ebpf.MapSpec{Type: ebpf.LPMTrie, KeySize: 8, ValueSize: 8, MaxEntries: entries, Flags: unix.BPF_F_NO_PREALLOC})
	for n := range entries {
		address := benchAddress(n).Addr().As4()
		key := append(binary.NativeEndian.AppendUint32(nil, 32), address[:]...)
		for _, m := range []*ebpf.Map{hash, trie} {
			if err := m.Put(key, value); err != nil {
				b.Fatal(err)
			}
		}
	}
	array := newBenchMap(b, &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 64, MaxEntries: entries})
	empty := newProgram(b)
	jump := newBenchMap(b, &ebpf.MapSpec{Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err := jump.Put(uint32(0), empty); err != nil {
		b.Fatal(err)
	}

	key := benchAddress(entries / 2).Addr().As4()
	lookup := func(m *ebpf.Map, then ...asm.Instruction) asm.Instructions {
		return append(asm.Instructions{
			asm.StoreImm(asm.RFP, -8, 32, asm.Word),
			asm.StoreImm(asm.RFP, -4, int64(binary.NativeEndian.Uint32(key[:])), asm.Word),
			asm.LoadMapPtr(asm.R1, m.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, -8),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "pass"),
		}, then...)
	}
	add := func(offset int16) asm.Instruction { return asm.AddAtomic.Mem(asm.R0, asm.R1, asm.DWord, offset) }
	for _, test := range []struct {
		name    string
		program asm.Instructions
	}{
		{"tail call", asm.Instructions{asm.LoadMapPtr(asm.R2, jump.FD()), asm.Mov.Imm(asm.R3, 0), asm.FnTailCall.Call()}},
		{"look-up in a hash map", lookup(hash)},
		{"look-up in an LPM trie", lookup(trie)},
		{"look-up in an array", lookup(array)},
		{"and two atomic additions", lookup(array, asm.Mov.Imm(asm.R1, 1), add(8), add(16))},
		{"coarse clock", asm.Instructions{asm.FnKtimeGetCoarseNs.Call()}},
		{"jiffies", asm.Instructions{asm.FnJiffies64.Call()}},
	} {
		b.Run(test.name, func(b *testing.B) {
			benchmarkNet(b, empty, newProgram(b, test.program...), udp(hostPort4, peerPort4, "a packet"))
		})
	}
}

// benchmarkNet runs a program b.N times on a packet, and another one as often
// by turns, and reports what the first one takes longer, as the median of many
// short runs. Time is that of this thread, whatever else the machine does.
func benchmarkNet(b *testing.B, base, program *ebpf.Program, packet []byte) {
	b.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	now := func() int64 {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
			b.Fatal(err)
		}
		return ts.Nano()
	}
	const most = 10_000
	repeat := min(b.N, most)
	cost := func(program *ebpf.Program) int64 {
		start := now()
		verdict, err := program.Run(&ebpf.RunOptions{Data: packet, Repeat: uint32(repeat)})
		if err != nil || int(int32(verdict)) != pass {
			b.Fatalf("verdict %d, %v", int32(verdict), err)
		}
		return now() - start
	}
	var nets []float64
	for done := 0; done < b.N; done += repeat {
		nothing := cost(base)
		nets = append(nets, float64(cost(program)-nothing)/float64(repeat))
	}
	slices.Sort(nets)
	b.ReportMetric(nets[len(nets)/2], "net-ns/packet")
	b.ReportMetric(0, "ns/op") // that would be all of it
}

func newBenchMap(b *testing.B, spec *ebpf.MapSpec) *ebpf.Map {
	b.Helper()
	m, err := ebpf.NewMap(spec)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { m.Close() })
	return m
}

// newDice loads a program that gives a packet the address of one of the first
// peers, a power of two, at random, and then runs another program.
func newDice(b *testing.B, peers int, program *ebpf.Program) *ebpf.Program {
	b.Helper()
	jump := newBenchMap(b, &ebpf.MapSpec{Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err := jump.Put(uint32(0), program); err != nil {
		b.Fatal(err)
	}
	const data, dataEnd, destination = 76, 80, 16 // in struct __sk_buff and in the packet
	first := benchAddress(0).Addr().As4()
	return newProgram(b,
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.FnGetPrandomU32.Call(),
		asm.And.Imm(asm.R0, int32(peers-1)),
		asm.Or.Imm(asm.R0, int32(binary.BigEndian.Uint32(first[:]))),
		asm.HostTo(asm.BE, asm.R0, asm.Word),
		asm.LoadMem(asm.R2, asm.R6, data, asm.Word),
		asm.LoadMem(asm.R3, asm.R6, dataEnd, asm.Word),
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, header4),
		asm.JGT.Reg(asm.R4, asm.R3, "pass"),
		asm.StoreMem(asm.R2, destination, asm.R0, asm.Word),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.LoadMapPtr(asm.R2, jump.FD()),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnTailCall.Call(),
	)
}
