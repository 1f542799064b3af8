// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"errors"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/lazybpf/lazybpf/internal/lab/labtest"
)

// attached lists what is attached to the device: "tcx egress NAME", "filter
// ingress NAME", "qdisc clsact", and "parking device".
func (d *device) attached() []string {
	d.t.Helper()
	list := append(d.programs("egress", ebpf.AttachTCXEgress), d.programs("ingress", ebpf.AttachTCXIngress)...)
	list = append(list, d.filters("egress", netlink.HANDLE_MIN_EGRESS)...)
	list = append(list, d.filters("ingress", netlink.HANDLE_MIN_INGRESS)...)
	qdiscs, err := netlink.QdiscList(d.link())
	if err != nil {
		d.t.Fatal(err)
	}
	for _, q := range qdiscs {
		if q.Attrs().Parent == netlink.HANDLE_CLSACT {
			list = append(list, "qdisc "+q.Type())
		}
	}
	if _, err := netlink.LinkByName(parkingName(d.index)); err == nil {
		list = append(list, "parking device")
	}
	return list
}

func (d *device) programs(direction string, hook ebpf.AttachType) []string {
	d.t.Helper()
	ids, err := labtest.TCXPrograms(d.index, hook)
	if err != nil {
		d.t.Fatal(err)
	}
	var list []string
	for _, id := range ids {
		program, err := ebpf.NewProgramFromID(id)
		if err != nil {
			d.t.Fatal(err)
		}
		info, err := program.Info()
		if err := errors.Join(err, program.Close()); err != nil {
			d.t.Fatal(err)
		}
		list = append(list, "tcx "+direction+" "+info.Name)
	}
	return list
}

func (d *device) filters(direction string, parent uint32) []string {
	d.t.Helper()
	filters, err := netlink.FilterList(d.link(), parent)
	if err != nil {
		d.t.Fatal(err)
	}
	var list []string
	for _, f := range filters {
		name := "of type " + f.Type()
		if bpf, ok := f.(*netlink.BpfFilter); ok {
			name = bpf.Name
		}
		list = append(list, "filter "+direction+" "+name)
	}
	return list
}

// expectAttached compares all that is attached to the device.
func (d *device) expectAttached(want ...string) {
	d.t.Helper()
	if got := d.attached(); !slices.Equal(got, want) {
		d.t.Errorf("attached are %q, want %q", got, want)
	}
}

// addClsact gives the device a qdisc that is not the detector's.
func (d *device) addClsact() {
	d.t.Helper()
	err := netlink.QdiscAdd(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: d.index, Parent: netlink.HANDLE_CLSACT, Handle: netlink.MakeHandle(0xffff, 0),
	}})
	if err != nil {
		d.t.Fatal(err)
	}
}

// addFilter attaches a program to the device's clsact qdisc.
func (d *device) addFilter(parent uint32, name string, program *ebpf.Program) {
	d.t.Helper()
	const all = 0x0003 // ETH_P_ALL
	err := netlink.FilterAdd(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: d.index, Parent: parent, Handle: 1, Priority: 1, Protocol: all},
		Fd:          program.FD(), Name: name, DirectAction: true,
	})
	if err != nil {
		d.t.Fatal(err)
	}
}

// addTCX attaches a program to the device's tcx hook, for as long as the test
// runs.
func (d *device) addTCX(hook ebpf.AttachType, program *ebpf.Program) {
	d.t.Helper()
	attached, err := link.AttachTCX(link.TCXOptions{Interface: d.index, Program: program, Attach: hook})
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { attached.Close() })
}
