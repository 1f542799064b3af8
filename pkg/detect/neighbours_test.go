// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// neighbour is a pair of programs of somebody else on the same device. They
// count the IPv4 packets that they see: in IPv6 the kernel has things of its
// own to say.
type neighbour struct {
	t       *testing.T
	egress  *ebpf.Map
	ingress *ebpf.Map
}

// newNeighbour attaches programs named "neighbour" to both tcx hooks of a
// device, or both tc hooks.
func newNeighbour(t *testing.T, dev *device, hook Attach) neighbour {
	t.Helper()
	n := neighbour{t: t}
	var egress, ingress *ebpf.Program
	egress, n.egress = newCounter(t)
	ingress, n.ingress = newCounter(t)
	if hook == AttachTCX {
		dev.addTCX(ebpf.AttachTCXEgress, egress)
		dev.addTCX(ebpf.AttachTCXIngress, ingress)
		return n
	}
	dev.addClsact()
	dev.addFilter(netlink.HANDLE_MIN_EGRESS, "neighbour", egress)
	dev.addFilter(netlink.HANDLE_MIN_INGRESS, "neighbour", ingress)
	return n
}

// newCounter makes a program that counts packets, and the map where it does.
func newCounter(t *testing.T) (*ebpf.Program, *ebpf.Map) {
	t.Helper()
	packets, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { packets.Close() })
	const protocol = 16 // offset in struct __sk_buff
	return newProgram(t,
		asm.LoadMem(asm.R2, asm.R1, protocol, asm.Word),
		asm.JNE.Imm(asm.R2, int32(networkOrder(unix.ETH_P_IP)), "pass"),
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, packets.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "pass"),
		asm.Mov.Imm(asm.R1, 1),
		asm.AddAtomic.Mem(asm.R0, asm.R1, asm.DWord, 0),
	), packets
}

// expect compares how many packets the neighbour has seen, either way.
func (n neighbour) expect(when string, egress, ingress uint64) {
	n.t.Helper()
	for _, hook := range []struct {
		name    string
		packets *ebpf.Map
		want    uint64
	}{{"egress", n.egress, egress}, {"ingress", n.ingress, ingress}} {
		var got uint64
		if err := hook.packets.Lookup(uint32(0), &got); err != nil {
			n.t.Fatal(err)
		}
		if got != hook.want {
			n.t.Errorf("%s: the neighbour has seen %d packets on %s, want %d", when, got, hook.name, hook.want)
		}
	}
}

// TestNeighbours has somebody else's programs on the same device. They were
// there first, see all packets, and stay.
func TestNeighbours(t *testing.T) {
	for name, test := range map[string]struct {
		ours, theirs Attach
		held         uint64 // times that they see a packet which is held
		alone        []string
	}{
		"both on tcx":      {AttachTCX, AttachTCX, 1, []string{"tcx egress neighbour", "tcx ingress neighbour"}},
		"both on clsact":   {AttachClsact, AttachClsact, 1, []string{"filter egress neighbour", "filter ingress neighbour", "qdisc clsact"}},
		"they on clsact":   {AttachTCX, AttachClsact, 1, []string{"filter egress neighbour", "filter ingress neighbour", "qdisc clsact"}},
		"they come before": {AttachClsact, AttachTCX, 2, []string{"tcx egress neighbour", "tcx ingress neighbour"}},
	} {
		t.Run(name, func(t *testing.T) {
			if test.ours == AttachTCX || test.theirs == AttachTCX {
				needTCX(t)
			}
			dev := newDevice(t)
			n := newNeighbour(t, dev, test.theirs)
			dev.expectAttached(test.alone...)
			w := &tunnel{t: t, dev: dev, d: newDetector(t, Options{Interface: dev.name, Attach: test.ours})}
			p := w.newPeer()

			w.send(p.v4, "one", "two")
			dev.answer(p.v4, "an answer")
			n.expect("packets pass", 2, 1)

			w.d.mustArm(p.id, true)
			w.send(p.v4, "three", "four", "five")
			n.expect("packets are held", 2+3*(test.held-1), 1)
			w.d.mustOpen(p.id)
			n.expect("packets are replayed", 2+3*test.held, 1)

			if err := w.d.Close(); err != nil {
				t.Fatal(err)
			}
			w.send(p.v4, "six")
			dev.answer(p.v4, "an answer")
			n.expect("the detector is closed", 3+3*test.held, 2)
			dev.expect("one", "two", "three", "four", "five", "six")
			dev.expectAttached(test.alone...)
		})
	}
}
