// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"net"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// counter is a program of somebody else's that counts packets and has no opinion on them.
type counter struct {
	t       testing.TB
	packets *ebpf.Map
	program *ebpf.Program
}

func newCounter(t testing.TB) *counter {
	t.Helper()
	packets, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { packets.Close() })
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "foreign",
		Type: ebpf.SchedCLS,
		Instructions: asm.Instructions{
			asm.LoadMapValue(asm.R1, packets.FD(), 0),
			asm.Mov.Imm(asm.R2, 1),
			asm.AddAtomic.Mem(asm.R1, asm.R2, asm.DWord, 0),
			asm.Mov.Imm(asm.R0, -1), // TCX_NEXT, TC_ACT_UNSPEC
			asm.Return(),
		},
		License: "GPL",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return &counter{t, packets, program}
}

// count is how many packets the program has seen.
func (c *counter) count() (packets uint64) {
	c.t.Helper()
	if err := c.packets.Lookup(uint32(0), &packets); err != nil {
		c.t.Fatal(err)
	}
	return packets
}

// onFilter puts the counter on a device as a tc filter, in front of the others that are there.
func (c *counter) onFilter(device int, parent uint32) {
	c.t.Helper()
	qdisc := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: device, Parent: netlink.HANDLE_CLSACT, Handle: netlink.MakeHandle(0xffff, 0),
	}}
	if err := netlink.QdiscAdd(qdisc); err != nil && !errors.Is(err, unix.EEXIST) {
		c.t.Fatal(err)
	}
	err := netlink.FilterAdd(&netlink.BpfFilter{
		FilterAttrs:  netlink.FilterAttrs{LinkIndex: device, Parent: parent, Priority: 1, Handle: 1, Protocol: unix.ETH_P_ALL},
		Fd:           c.program.FD(),
		Name:         "foreign",
		DirectAction: true,
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// onTCX puts the counter on one of a device's tcx hooks, and returns false if the kernel has none.
func (c *counter) onTCX(device int, hook ebpf.AttachType) bool {
	c.t.Helper()
	attached, err := link.AttachTCX(link.TCXOptions{Interface: device, Program: c.program, Attach: hook})
	if errors.Is(err, ebpf.ErrNotSupported) {
		return false
	}
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { attached.Close() })
	return true
}

// TestForeignPrograms has programs of somebody else's on the device: they stay there, whatever lazybpf does, and see every
// packet once, those among them that lazybpf holds.
func TestForeignPrograms(t *testing.T) {
	for name, start := range subjects {
		t.Run(name, func(t *testing.T) {
			n := labtest.Network(t, lab.Options{Keepalive: keepalive})
			device, err := net.InterfaceByName(n.Here.Name)
			if err != nil {
				t.Fatal(err)
			}
			filterOut, filterIn, tcxOut, tcxIn := newCounter(t), newCounter(t), newCounter(t), newCounter(t)
			filterOut.onFilter(device.Index, netlink.HANDLE_MIN_EGRESS)
			filterIn.onFilter(device.Index, netlink.HANDLE_MIN_INGRESS)
			counters := map[string]*counter{"filter on egress": filterOut, "filter on ingress": filterIn}
			// A kernel on which lazybpf takes clsact has no tcx. On others tcx comes first and would see held packets twice.
			if name != "clsact" && tcxOut.onTCX(device.Index, ebpf.AttachTCXEgress) && tcxIn.onTCX(device.Index, ebpf.AttachTCXIngress) {
				counters["tcx on egress"], counters["tcx on ingress"] = tcxOut, tcxIn
			}
			installed := traces(t, onHere(t, n))
			if len(installed) != 1+len(counters) { // a qdisc as well
				t.Fatalf("there is %q", installed)
			}
			// Each ping is one packet out and one in.
			seesPings := func(pings uint64) {
				t.Helper()
				before := make(map[string]uint64)
				for name, c := range counters {
					before[name] = c.count()
				}
				for range pings {
					if _, err := n.Here.Ping(soon(t), n.There.IPv4); err != nil {
						t.Fatal(err)
					}
				}
				for name, c := range counters {
					if got := c.count() - before[name]; got != pings {
						t.Errorf("%s has seen %d packets of %d", name, got, pings)
					}
				}
			}

			s := start(t, n, lazy.WakeHold)
			forget(t, n, s)
			before := s.figures()
			seesPings(3)
			awaitWake(t, s, before, lazy.WakeHold)
			s.stop()
			seesPings(3)
			if left := traces(t, onHere(t, n)); !slices.Equal(left, installed) {
				t.Errorf("now there is %q,\nbefore there was %q", left, installed)
			}
		})
	}
}
