// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// clsact is a pair of tc filters on the device's clsact qdisc. They outlive
// the process; the programs then let everything through (see bpf/lazybpf.c)
// until a later detector, or RemoveLeftovers, removes them.
type clsact struct {
	nl      *netlink.Handle
	ifindex int
}

// The handles of our filters. Other than a name, which anybody may choose, they
// also say whether the qdisc is ours to remove.
const (
	handleGuest = 0x6c617a79 // the qdisc was there
	handleOwner = 0x6c617a7a // we have made it
)

// parents are the attachment points of a clsact qdisc.
var parents = []uint32{netlink.HANDLE_MIN_EGRESS, netlink.HANDLE_MIN_INGRESS}

func attachClsact(nl *netlink.Handle, ifindex int, s *shared) (attachment, error) {
	handle := uint32(handleOwner)
	err := nl.QdiscAdd(newClsact(ifindex))
	if errors.Is(err, unix.EEXIST) {
		handle, err = handleGuest, checkClsact(nl, ifindex)
	}
	if err != nil {
		return nil, fmt.Errorf("add clsact qdisc: %w; try modprobe sch_ingress", err)
	}
	c := clsact{nl, ifindex}
	for _, f := range []*netlink.BpfFilter{
		{FilterAttrs: netlink.FilterAttrs{Parent: netlink.HANDLE_MIN_EGRESS}, Fd: s.Egress.FD(), Name: bpfProgLazybpfEgress},
		{FilterAttrs: netlink.FilterAttrs{Parent: netlink.HANDLE_MIN_INGRESS}, Fd: s.Ingress.FD(), Name: bpfProgLazybpfIngress},
	} {
		f.LinkIndex, f.Handle, f.Protocol, f.DirectAction = ifindex, handle, unix.ETH_P_ALL, true
		if err := addFilter(nl, f); err != nil {
			err = errors.Join(fmt.Errorf("add tc filter %s: %w; try modprobe cls_bpf", f.Name, err), c.Close())
			if handle == handleOwner && f.Parent == parents[0] { // there is no filter yet that would say so
				err = errors.Join(err, nl.QdiscDel(newClsact(ifindex)))
			}
			return nil, err
		}
	}
	return c, nil
}

func newClsact(ifindex int) *netlink.Clsact {
	return &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: ifindex, Parent: netlink.HANDLE_CLSACT, Handle: netlink.MakeHandle(0xffff, 0),
	}}
}

// checkClsact returns an error if the qdisc that is there is another than
// clsact: ingress takes filters for egress too, and shows them ingress packets.
func checkClsact(nl *netlink.Handle, ifindex int) error {
	qdiscs, err := nl.QdiscList(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: ifindex}})
	if err != nil {
		return err
	}
	for _, q := range qdiscs {
		if q.Attrs().Parent == netlink.HANDLE_CLSACT && q.Type() != "clsact" {
			return fmt.Errorf("the device has a qdisc of type %s instead", q.Type())
		}
	}
	return nil
}

// addFilter adds a filter as near to the front as it can: a priority that has
// filters of another kind takes none of this.
func addFilter(nl *netlink.Handle, f *netlink.BpfFilter) error {
	const priorities = 64
	var err error
	for f.Priority = 1; f.Priority <= priorities; f.Priority++ {
		if err = nl.FilterAdd(f); !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
	return err
}

func (clsact) String() string { return "clsact" }

func (c clsact) Close() error { return removeFilters(c.nl, c.ifindex) }

// removeFilters removes our filters from a device, those of a detector that
// died among them, and the qdisc if it was made for them and is empty now.
func removeFilters(nl *netlink.Handle, ifindex int) error {
	link := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: ifindex}}
	owner, others := false, 0
	for _, parent := range parents {
		filters, err := nl.FilterList(link, parent)
		if err != nil {
			return fmt.Errorf("list tc filters: %w", err)
		}
		for _, f := range filters {
			bpf, ok := f.(*netlink.BpfFilter)
			ours := ok && (bpf.Handle == handleGuest || bpf.Handle == handleOwner) &&
				(bpf.Name == bpfProgLazybpfEgress || bpf.Name == bpfProgLazybpfIngress)
			if !ours {
				others++
				continue
			}
			owner = owner || bpf.Handle == handleOwner
			if err := nl.FilterDel(f); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("remove tc filter %s: %w", bpf.Name, err)
			}
		}
	}
	if !owner || others > 0 {
		return nil
	}
	err := nl.QdiscDel(newClsact(ifindex))
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove clsact qdisc: %w", err)
	}
	return nil
}
