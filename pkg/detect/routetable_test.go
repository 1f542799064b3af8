// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"fmt"
	"net/netip"
	"testing"
	"unsafe"
)

// TestRoutesCrowded has many prefixes, of both families and several lengths,
// begin their search in one bucket: first as many as fit the buckets that the
// programs look into, then more.
func TestRoutesCrowded(t *testing.T) {
	t.Parallel()
	const fit, all = maxBuckets * len(bpfBucket{}.Routes), 60
	d := newRig(t, Options{})
	everyone := d.mustAdd(everything...)
	crowd := crowded(&d.tables.routes, all)
	ids := make([]ID, all)
	expect := func(n int, want ID) {
		t.Helper()
		counted := d.counts(append(ids[:n:n], everyone)...)
		packet := udp(hostPort4, netip.AddrPortFrom(crowd[n].Addr(), 7), "as long as an IPv6 header without extensions")
		if crowd[n].Addr().Is6() {
			packet = udp(hostPort6, netip.AddrPortFrom(crowd[n].Addr(), 7), "")
		}
		d.run(Egress, packet, skb{})
		counted.expect(Egress, want, 1, len(packet), Stats{})
		if slot, ok := d.lookup(crowd[n].Addr()); !ok || slot != want.Slot() {
			t.Errorf("lookup of %s: slot %d, %t", crowd[n], slot, ok)
		}
	}
	before := d.tables.capacity
	for n := range all {
		expect(n, everyone)
		ids[n] = d.mustAdd(crowd[n])
		expect(n, ids[n])
		if n < fit-len(everything) && d.tables.capacity != before {
			t.Fatalf("no room for %d prefixes", n+1)
		}
	}
	if d.tables.capacity == before {
		t.Error("there is room for all of them in", before)
	}
	for n := range all {
		if n%2 == 0 {
			if err := d.Remove(ids[n]); err != nil {
				t.Fatal(err)
			}
		}
	}
	for n, id := range ids {
		if n%2 == 0 {
			ids[n], id = everyone, everyone
		}
		expect(n, id)
	}
}

// crowded finds prefixes that share a bucket.
func crowded(table *routeTable, n int) []netip.Prefix {
	var prefixes []netip.Prefix
	want, _ := table.hash(keyOf(netip.MustParsePrefix("10.1.0.0/32")))
	for i := 0; len(prefixes) < n; i++ {
		v4 := netip.AddrFrom4([4]byte{10, byte(2 + i>>16), byte(i >> 8), byte(i)})
		v6 := [16]byte{0xfd, byte(i >> 16), byte(i >> 8), byte(i), 8: 1}
		subnet := netip.PrefixFrom(netip.AddrFrom16(v6), 72)
		v6[8]++ // not in it
		for _, p := range []netip.Prefix{netip.PrefixFrom(v4, 32), subnet, netip.PrefixFrom(netip.AddrFrom16(v6), 128)} {
			if bucket, _ := table.hash(keyOf(p)); bucket == want && len(prefixes) < n {
				prefixes = append(prefixes, p)
			}
		}
	}
	return prefixes
}

// TestRoutesSpread has prefixes that are like one another spread over the buckets as if they were random ones, whatever the
// factors.
func TestRoutesSpread(t *testing.T) {
	var row, compensated, nested []netip.Prefix
	for a := netip.MustParseAddr("10.0.0.0"); len(row) < minCapacity; a = a.Next() {
		row = append(row, netip.PrefixFrom(a, 32))
	}
	for n := range 64 {
		a := netip.AddrFrom16([16]byte{0xfd, 7: 100 - byte(n)})
		compensated = append(compensated, netip.PrefixFrom(a, 64+n))
	}
	for length := 8; length <= 128; length++ {
		nested = append(nested, netip.PrefixFrom(netip.MustParseAddr("fd00::"), length))
	}
	buckets, shift := bucketsFor(minCapacity)
	memory := make([]byte, uintptr(buckets)*unsafe.Sizeof(bpfBucket{}))
	for name, prefixes := range map[string][]netip.Prefix{
		"addresses in a row, by which most peers are known": row,
		"as much less in address as more in length":         compensated,
		"one address in all lengths":                        nested,
	} {
		t.Run(name, func(t *testing.T) {
			for range 1000 {
				clear(memory)
				factors := newHashFactors()
				table := newRouteTable(memory, factors, buckets, shift)
				for _, p := range prefixes {
					if !table.set(keyOf(p), 7) {
						t.Fatalf("factors %x: no room for %s", factors, p)
					}
				}
				crowded := 0
				for i := range table.buckets {
					crowded += int(table.buckets[i].Overflows)
				}
				if crowded > len(prefixes)/16 { // of random ones 1 in 120 makes a bucket overflow
					t.Fatalf("factors %x: %d of %d buckets overflow", factors, crowded, buckets)
				}
			}
		})
	}
}

// TestRoutesGone adds and removes more prefixes than there is room for: those
// that are gone make room.
func TestRoutesGone(t *testing.T) {
	t.Parallel()
	d := newRig(t, Options{})
	stays := d.mustAdd(single(peerPort4))
	before := d.tables.capacity
	for n := range 3 * minCapacity {
		p := netip.MustParsePrefix(fmt.Sprintf("fd08::%x/128", n))
		if err := d.Remove(d.mustAdd(p)); err != nil {
			t.Fatal(err)
		}
		// One that comes back takes the place it had.
		again := d.mustAdd(netip.MustParsePrefix("10.9.0.0/16"))
		if err := d.Remove(again); err != nil {
			t.Fatal(err)
		}
	}
	if d.tables.capacity != before {
		t.Errorf("capacity is %v, was %v", d.tables.capacity, before)
	}
	counted := d.counts(stays)
	packet := udp(hostPort4, peerPort4, "")
	d.run(Egress, packet, skb{})
	counted.expect(Egress, stays, 1, len(packet), Stats{})
}
