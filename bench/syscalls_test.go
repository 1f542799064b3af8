// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/lazybpf/lazybpf/pkg/detect"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// syscalls counts the system calls of one process, by number: a BPF program on
// the kernel's tracepoint sys_enter.
type syscalls struct {
	counts *ebpf.Memory // read without a system call
	close  func()
}

const syscallNumbers = 512

func countSyscalls(b testing.TB, pid int) *syscalls {
	b.Helper()
	counts, err := ebpf.NewMap(&ebpf.MapSpec{
		Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: syscallNumbers, Flags: unix.BPF_F_MMAPABLE,
	})
	if err != nil {
		b.Fatal(err)
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.RawTracepoint,
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R6, asm.R1, 8, asm.DWord), // the second argument is the number
			asm.FnGetCurrentPidTgid.Call(),
			asm.RSh.Imm(asm.R0, 32),
			asm.JNE.Imm(asm.R0, int32(pid), "end"),
			asm.StoreMem(asm.RFP, -4, asm.R6, asm.Word),
			asm.LoadMapPtr(asm.R1, counts.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, -4),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "end"),
			asm.Mov.Imm(asm.R1, 1),
			asm.AddAtomic.Mem(asm.R0, asm.R1, asm.DWord, 0),
			asm.Mov.Imm(asm.R0, 0).WithSymbol("end"),
			asm.Return(),
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	attached, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: "sys_enter", Program: program})
	if err != nil {
		b.Fatal(err)
	}
	memory, err := counts.Memory()
	if err != nil {
		b.Fatal(err)
	}
	return &syscalls{memory, func() {
		attached.Close()
		program.Close()
		counts.Close()
	}}
}

// ofGo are what Go's runtime asks of the kernel for itself: memory, threads, sleep.
var ofGo = map[int]bool{
	unix.SYS_FUTEX: true, unix.SYS_NANOSLEEP: true, unix.SYS_SCHED_YIELD: true, unix.SYS_EPOLL_PWAIT: true,
	unix.SYS_MADVISE: true, unix.SYS_MMAP: true, unix.SYS_MUNMAP: true, unix.SYS_TGKILL: true, unix.SYS_GETPID: true,
	unix.SYS_RT_SIGRETURN: true, unix.SYS_RT_SIGPROCMASK: true, unix.SYS_CLONE: true, unix.SYS_SIGALTSTACK: true,
	unix.SYS_GETTID: true,
}

// total is how many calls the process has made, but for those of Go's runtime.
func (s *syscalls) total(b testing.TB) (total uint64) {
	b.Helper()
	var counts [8 * syscallNumbers]byte
	if _, err := s.counts.ReadAt(counts[:], 0); err != nil {
		b.Fatal(err)
	}
	for number := range syscallNumbers {
		if !ofGo[number] {
			total += binary.NativeEndian.Uint64(counts[8*number:])
		}
	}
	return total
}

// BenchmarkAddSyscalls counts the system calls that it takes to add a peer with one
// or with 10 allowed IPs, to take it away, to arm it and to look at it. Those by
// which the tables grow are among them, those of Go's runtime are not.
func BenchmarkAddSyscalls(b *testing.B) {
	n := newNetwork(b)
	peers := sized(100_000)
	for _, ips := range []int{1, 10} {
		b.Run(fmt.Sprintf("ips=%d", ips), func(b *testing.B) {
			for b.Loop() {
				d, _, stop := open(b, n, detect.Options{}, lazy.Options{Connector: nothing{}})
				s := countSyscalls(b, os.Getpid())
				ids := make([]detect.ID, peers/ips)
				each := func(name string, do func(peer int) error) {
					before := s.total(b)
					for peer := range ids {
						if err := do(peer); err != nil {
							b.Fatal(err)
						}
					}
					b.ReportMetric(float64(s.total(b)-before)/float64(len(ids)), name+"-calls/peer")
				}
				each("add", func(peer int) (err error) {
					prefixes := make([]netip.Prefix, ips)
					for i := range prefixes {
						prefixes[i] = prefixOf(peer*ips + i)
					}
					ids[peer], err = d.Add(prefixes)
					return err
				})
				each("arm", func(peer int) error { return d.Arm(ids[peer], false) })
				each("look", func(peer int) error { _, err := d.Activity(ids[peer]); return err })
				each("remove", func(peer int) error { return d.Remove(ids[peer]) })
				s.close()
				stop()
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}
