// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
)

// lengths is the list of prefix lengths in use in one address family, the
// longest first, as the programs walk it: next[e] is the element that follows
// e, element e stands for length e-1, 0 ends the list, and the last element of
// next is its head. Each change of the list is one byte, so that a program
// finds a whole list at any time.
type lengths struct {
	next  []uint8
	used  []uint32 // prefixes of each length
	total uint32   // prefixes of all lengths
}

// newLengths is an empty list for addresses of that many bits.
func newLengths(bits int) lengths {
	return lengths{next: make([]uint8, 1<<8), used: make([]uint32, bits+1)}
}

// netmasks returns the IPv6 netmask of each element of a list.
func netmasks() *[1 << 8][4]uint32 {
	masks := new([1 << 8][4]uint32)
	for length := range 128 + 1 {
		mask := net.CIDRMask(length, 128)
		for n := range 4 {
			masks[length+1][n] = binary.NativeEndian.Uint32(mask[4*n:])
		}
	}
	return masks
}

// before returns the element after which that of the length stands or would.
func (l *lengths) before(length int) int {
	e := len(l.next) - 1
	for int(l.next[e]) > length+1 {
		e = int(l.next[e])
	}
	return e
}

// add counts a prefix and brings its length into the list if it is the first.
// The caller has put the prefix into its map; show makes the list visible.
func (l *lengths) add(length int, show func([]uint8) error) error {
	if l.used[length] == 0 {
		e := l.before(length)
		l.next[length+1] = l.next[e]
		if err := show(l.next); err != nil {
			return err
		}
		l.next[e] = uint8(length + 1)
		if err := show(l.next); err != nil {
			l.next[e] = l.next[length+1]
			return err
		}
	}
	l.used[length]++
	l.total++
	return nil
}

// remove takes a prefix off the count, and its length off the list if it was
// the last.
func (l *lengths) remove(length int, show func([]uint8) error) error {
	l.used[length]--
	l.total--
	if l.used[length] > 0 {
		return nil
	}
	l.next[l.before(length)] = l.next[length+1]
	return show(l.next)
}

// family returns the prefix's list, and how to show it to the programs.
func (d *Detector) family(p netip.Prefix) (*lengths, func([]uint8) error) {
	if p.Addr().Is4() {
		return &d.lengths4, func(next []uint8) error { return d.tables.Next4.Set(next) }
	}
	return &d.lengths6, func(next []uint8) error { return d.tables.Next6.Set(next) }
}

// claimAll gives prefixes to a slot: all, or on error none. There is room.
func (d *Detector) claimAll(slot uint32, prefixes []netip.Prefix) error {
	for i, p := range prefixes {
		if err := d.claim(slot, p); err != nil {
			return errors.Join(err, d.disclaimAll(slot, prefixes[:i]))
		}
	}
	return nil
}

// disclaimAll takes prefixes from a slot.
func (d *Detector) disclaimAll(slot uint32, prefixes []netip.Prefix) error {
	var err error
	for _, p := range prefixes {
		err = errors.Join(err, d.disclaim(slot, p))
	}
	return err
}

func (d *Detector) claim(slot uint32, p netip.Prefix) error {
	switch err := d.tables.insert(p, slot); {
	case err == nil:
		l, show := d.family(p)
		if err := l.add(p.Bits(), show); err != nil {
			return errors.Join(err, d.tables.remove(p))
		}
		return nil
	case !errors.Is(err, ebpf.ErrKeyExist):
		return err
	}
	// Another peer has it: the last one wins, the others wait in line.
	claimants := d.contested[p]
	if len(claimants) == 0 {
		owner, err := d.tables.owner(p)
		if err != nil {
			return err
		}
		claimants = []uint32{owner}
	}
	if err := d.tables.replace(p, slot); err != nil {
		return err
	}
	d.contested[p] = append(claimants, slot)
	return nil
}

func (d *Detector) disclaim(slot uint32, p netip.Prefix) error {
	claimants, contested := d.contested[p]
	if !contested {
		// The length goes after its last prefix: a look-up that finds nothing
		// is harmless, a prefix that no look-up finds is not.
		err := d.tables.remove(p)
		l, show := d.family(p)
		return errors.Join(err, l.remove(p.Bits(), show))
	}
	owned := claimants[len(claimants)-1] == slot
	claimants = slices.DeleteFunc(claimants, func(s uint32) bool { return s == slot })
	d.contested[p] = claimants
	if len(claimants) == 1 {
		delete(d.contested, p)
	}
	if !owned {
		return nil
	}
	return d.tables.replace(p, claimants[len(claimants)-1])
}

// owns says whether the slot, which has claimed the prefix, is its owner.
func (d *Detector) owns(p netip.Prefix, slot uint32) bool {
	claimants := d.contested[p]
	return len(claimants) == 0 || claimants[len(claimants)-1] == slot
}

// lookup finds the slot that an address routes to, as the programs do.
func (d *Detector) lookup(a netip.Addr) (uint32, bool) {
	l := &d.lengths6
	if a.Is4() {
		l = &d.lengths4
	}
	for e := l.next[len(l.next)-1]; e != 0; e = l.next[e] {
		p, err := a.Prefix(int(e) - 1)
		if err != nil {
			return 0, false
		}
		if slot, err := d.tables.owner(p); err == nil {
			return slot, true
		}
	}
	return 0, false
}
