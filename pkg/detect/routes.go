// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
)

// lengths are the lists of prefix lengths in use, one of each address family, the
// longest first, as the programs walk them: next[e] is the element that follows
// e, and 0 ends the list. Each change of a list is one byte, so that a program
// finds a whole list at any time.
type lengths struct {
	next  []uint8
	used  []uint32 // prefixes of each element
	total uint32   // prefixes of all
}

// The heads of the lists, and what the length of a prefix is less than its
// element.
const (
	head4, element4 = 255, 130
	head6, element6 = 254, 1
)

func newLengths() lengths {
	return lengths{next: make([]uint8, 1<<8), used: make([]uint32, 1<<8)}
}

// element is that of the prefix's length.
func element(p netip.Prefix) uint8 {
	if p.Addr().Is4() {
		return uint8(element4 + p.Bits())
	}
	return uint8(element6 + p.Bits())
}

// netmasks returns the netmask of each element.
func netmasks() *[1 << 8][2]uint64 {
	masks := new([1 << 8][2]uint64)
	for length := range 32 + 1 {
		masks[element4+length][1] = 1<<32 - 1<<(32-length)
	}
	for length := range 128 + 1 {
		mask := net.CIDRMask(length, 128)
		masks[element6+length] = [2]uint64{binary.BigEndian.Uint64(mask), binary.BigEndian.Uint64(mask[8:])}
	}
	return masks
}

// before returns the element after which this one stands or would.
func (l *lengths) before(element uint8) uint8 {
	e := uint8(head4)
	if element < element4 {
		e = head6
	}
	for l.next[e] > element {
		e = l.next[e]
	}
	return e
}

// add counts a prefix and brings its length into the list if it is the first.
// The prefix has its route already; show makes the list visible.
func (l *lengths) add(element uint8, show func([]uint8) error) error {
	if l.used[element] == 0 {
		e := l.before(element)
		l.next[element] = l.next[e]
		if err := show(l.next); err != nil {
			return err
		}
		l.next[e] = element
		if err := show(l.next); err != nil {
			l.next[e] = l.next[element]
			return err
		}
	}
	l.used[element]++
	l.total++
	return nil
}

// remove takes a prefix off the count, and its length off the list if it was
// the last.
func (l *lengths) remove(element uint8, show func([]uint8) error) error {
	l.used[element]--
	l.total--
	if l.used[element] > 0 {
		return nil
	}
	l.next[l.before(element)] = l.next[element]
	return show(l.next)
}

// showLengths shows the lists to the programs, after what was shown before.
func (d *Detector) showLengths(next []uint8) error {
	publish()
	return d.tables.Next.Set(next)
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
	owner, owned := d.tables.routes.owner(keyOf(p))
	for !d.tables.routes.set(keyOf(p), slot) { // seldom: its buckets are full, though there is room in others
		c := d.tables.capacity
		if err := d.grow(capacity{c.peers, 2 * c.routes}); err != nil {
			return err
		}
	}
	if !owned {
		if err := d.lengths.add(element(p), d.showLengths); err != nil {
			d.tables.routes.remove(keyOf(p))
			return err
		}
		return nil
	}
	// Another peer has had it: the last one wins, the others wait in line.
	if len(d.contested[p]) == 0 {
		d.contested[p] = []uint32{owner}
	}
	d.contested[p] = append(d.contested[p], slot)
	return nil
}

func (d *Detector) disclaim(slot uint32, p netip.Prefix) error {
	claimants, contested := d.contested[p]
	if !contested {
		// The length goes after its last prefix: a look-up that finds nothing
		// is harmless, a prefix that no look-up finds is not.
		d.tables.routes.remove(keyOf(p))
		return d.lengths.remove(element(p), d.showLengths)
	}
	owned := claimants[len(claimants)-1] == slot
	claimants = slices.DeleteFunc(claimants, func(s uint32) bool { return s == slot })
	d.contested[p] = claimants
	if len(claimants) == 1 {
		delete(d.contested, p)
	}
	if owned {
		d.tables.routes.set(keyOf(p), claimants[len(claimants)-1])
	}
	return nil
}

// lookup finds the slot that an address routes to, as the programs do.
func (d *Detector) lookup(a netip.Addr) (uint32, bool) {
	head, offset := head6, element6
	if a.Is4() {
		head, offset = head4, element4
	}
	for e := d.lengths.next[head]; e != 0; e = d.lengths.next[e] {
		p, err := a.Prefix(int(e) - offset)
		if err != nil {
			return 0, false
		}
		if slot, found := d.tables.routes.owner(keyOf(p)); found {
			return slot, true
		}
	}
	return 0, false
}
