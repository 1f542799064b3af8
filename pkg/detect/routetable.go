// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"unsafe"
)

// routeTable is the hash table of routes in the memory that the programs read.
// A route stays in its place for ever: only its owner changes, to nobody if
// need be. So packets need no lock, and tables that are full of routes of nobody
// are replaced.
type routeTable struct {
	buckets []bpfBucket
	factors hashFactors
	shift   uint32
	used    uint32 // routes, those of nobody included
}

// maxBuckets is how many buckets the programs look into for one route.
const maxBuckets = 8

// bucketsFor is how many buckets, and by what shift of a hash they are chosen,
// there are for so many routes. They are two in a bucket on average, of the five
// that fit.
func bucketsFor(routes uint32) (buckets, shift uint32) {
	n := bits.Len32(max(routes/2, 2) - 1)
	return 1 << n, uint32(64 - n)
}

func newRouteTable(memory []byte, factors hashFactors, buckets, shift uint32) routeTable {
	return routeTable{
		buckets: unsafe.Slice((*bpfBucket)(unsafe.Pointer(unsafe.SliceData(memory))), buckets),
		factors: factors, shift: shift,
	}
}

// routeKey is a prefix as the programs know it.
type routeKey struct {
	address [2]uint64
	element uint8
}

func keyOf(p netip.Prefix) routeKey {
	if p.Addr().Is4() {
		a := p.Addr().As4()
		return routeKey{[2]uint64{0, uint64(binary.BigEndian.Uint32(a[:]))}, element(p)}
	}
	a := p.Addr().As16()
	return routeKey{[2]uint64{binary.BigEndian.Uint64(a[:]), binary.BigEndian.Uint64(a[8:])}, element(p)}
}

// hashFactors are odd random numbers.
type hashFactors [3]uint64

func newHashFactors() (f hashFactors) {
	for i := range f {
		f[i] = rand.Uint64() | 1
	}
	return f
}

// hash is key_of of bpf/lazybpf.c.
func (t *routeTable) hash(k routeKey) (bucket uint64, tag uint32) {
	h := k.address[0]*t.factors[0] + k.address[1]*t.factors[1] + uint64(k.element)*t.factors[2]
	h = (h ^ h>>32) * t.factors[2]
	return h >> t.shift, uint32(h>>16)&^0xff | uint32(k.element)
}

// find returns the route, or else the place where it belongs; nil if there is
// none. Buckets on the way to that place say from now on that they overflow.
func (t *routeTable) find(k routeKey, insert bool) *bpfRoute {
	home, tag := t.hash(k)
	for i := range uint64(maxBuckets) {
		bucket := &t.buckets[(home+i)%uint64(len(t.buckets))]
		for n := range bucket.Routes {
			route := &bucket.Routes[n]
			if route.Tag == tag && route.Address == k.address || route.Tag == 0 && insert {
				return route
			}
		}
		if bucket.Overflows == 0 && !insert {
			return nil
		}
		if insert {
			atomic.StoreUint32(&bucket.Overflows, 1)
		}
	}
	return nil
}

// owner is the slot that a route leads to.
func (t *routeTable) owner(k routeKey) (slot uint32, found bool) {
	route := t.find(k, false)
	if route == nil || route.Owner == 0 {
		return 0, false
	}
	return route.Owner - 1, true
}

// set makes a route lead to a slot, from one moment to the next. It says
// whether there was room.
func (t *routeTable) set(k routeKey, slot uint32) bool {
	route := t.find(k, true)
	if route == nil {
		return false
	}
	if route.Tag == 0 {
		_, tag := t.hash(k)
		route.Address = k.address
		atomic.StoreUint32(&route.Owner, slot+1)
		atomic.StoreUint32(&route.Tag, tag) // and with this it is there
		t.used++
		return true
	}
	atomic.StoreUint32(&route.Owner, slot+1)
	return true
}

// remove leaves a route that is there to nobody.
func (t *routeTable) remove(k routeKey) {
	if route := t.find(k, false); route != nil {
		atomic.StoreUint32(&route.Owner, 0)
	}
}

// copyTo writes all routes that lead somewhere into another table, and says
// whether there was room.
func (t *routeTable) copyTo(other *routeTable) bool {
	for i := range t.buckets {
		for _, route := range t.buckets[i].Routes {
			k := routeKey{route.Address, uint8(route.Tag)}
			if route.Owner != 0 && !other.set(k, route.Owner-1) {
				return false
			}
		}
	}
	return true
}
