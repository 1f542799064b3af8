// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// recorder is a connector that does nothing but tell which peers it opens.
type recorder chan lazy.Key

func (r recorder) Open(_ context.Context, key lazy.Key, _ lazy.Wake) error { r <- key; return nil }
func (recorder) Close(context.Context, lazy.Key) error                     { return nil }

func (r recorder) next(b testing.TB) lazy.Key {
	b.Helper()
	select {
	case key := <-r:
		return key
	case <-time.After(patience):
		b.Fatal("no peer woke")
		panic("unreachable")
	}
}

// talk sends a datagram to a peer that is made up.
func talk(b testing.TB, n *lab.Network, peer int) {
	b.Helper()
	socket, err := n.Here.DialUDP(netip.AddrPortFrom(addressOf(peer), 9))
	if err == nil {
		_, err = socket.Write([]byte("a packet"))
		socket.Close()
	}
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkEvent is how long it takes from the moment in which a packet passes the
// hook until the manager, in a process of its own, has taken its event. Most of
// it is the kernel waking a thread: what that takes by itself is measured first,
// with a program at the same hook that does nothing else.
func BenchmarkEvent(b *testing.B) {
	const samples = 2000
	n := newNetwork(b)
	peers := sized(100_000)
	each := max(1, peers/samples)
	var took, thread []time.Duration
	for b.Loop() {
		took, thread = took[:0], thread[:0]
		woken, detach := wakeThread(b, n)
		for peer := 0; peer < peers; peer += each {
			time.Sleep(time.Millisecond) // until all is still, and the thread asleep
			talk(b, n, peer)
			thread = append(thread, <-woken)
		}
		detach()
		c := startChild(b, order{Interface: n.Here.Name, Dormant: peers})
		for peer := 0; peer < peers; peer += each {
			time.Sleep(time.Millisecond)
			talk(b, n, peer)
			var t time.Duration
			c.hear(&t)
			took = append(took, t)
		}
		c.stop()
	}
	reportQuantiles(b, "", took)
	reportQuantiles(b, "thread-", thread)
	b.ReportMetric(0, "ns/op")
}

// wakeThread has each packet to Here's interface wake a thread by a ring buffer,
// and returns how long after the packet passed the hook the thread ran.
func wakeThread(b testing.TB, n *lab.Network) (woken <-chan time.Duration, detach func()) {
	b.Helper()
	ring, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: uint32(os.Getpagesize())})
	if err != nil {
		b.Fatal(err)
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS,
		Instructions: asm.Instructions{
			asm.FnKtimeGetNs.Call(),
			asm.StoreMem(asm.RFP, -8, asm.R0, asm.DWord),
			asm.LoadMapPtr(asm.R1, ring.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, -8),
			asm.Mov.Imm(asm.R3, 8),
			asm.Mov.Imm(asm.R4, 0),
			asm.FnRingbufOutput.Call(),
			asm.Mov.Imm(asm.R0, -1), // TCX_NEXT
			asm.Return(),
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	var attached link.Link
	err = n.Here.Do(func() error {
		device, err := net.InterfaceByName(n.Here.Name)
		if err == nil {
			attached, err = link.AttachTCX(link.TCXOptions{Interface: device.Index, Program: program, Attach: ebpf.AttachTCXEgress})
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	reader, err := ringbuf.NewReader(ring)
	if err != nil {
		b.Fatal(err)
	}
	all := make(chan time.Duration, 1)
	go func() {
		runtime.LockOSThread()
		defer close(all)
		var record ringbuf.Record
		for reader.ReadInto(&record) == nil {
			var now unix.Timespec
			if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
				return
			}
			all <- time.Duration(now.Nano() - int64(binary.NativeEndian.Uint64(record.RawSample)))
		}
	}()
	return all, func() {
		attached.Close()
		reader.Close()
		for range all { // until the thread has ended
		}
		program.Close()
		ring.Close()
	}
}
