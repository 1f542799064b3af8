// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/gaissmai/bart"
)

// TestRoutes changes peers and their prefixes at random, and compares where
// packets go with what a model says.
func TestRoutes(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3, rand.Uint64()} {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			const steps = 200
			m := newRouteModel(t, rand.New(rand.NewPCG(seed, 0)))
			for step := range steps {
				m.change()
				if step == steps/2 {
					m.grow()
				}
				if step%5 == 0 {
					m.compare()
				}
			}
			for _, id := range m.peers {
				m.remove(id)
			}
			m.compare()
			if left := m.d.lengths.total; left != 0 || len(m.d.contested) > 0 {
				t.Errorf("without peers there are %d routes, and contested are %v", left, m.d.contested)
			}
		})
	}
}

// routeModel has what a detector should know of routes. Its prefixes are cut
// out of few addresses, so that they overlap, and are seldom one peer's alone.
type routeModel struct {
	d      detector
	t      *testing.T
	random *rand.Rand
	stems  []netip.Addr

	peers  []ID
	claims map[netip.Prefix][]ID // the owner last
}

func newRouteModel(t *testing.T, random *rand.Rand) *routeModel {
	m := &routeModel{d: newRig(t, Options{}), t: t, random: random, claims: make(map[netip.Prefix][]ID)}
	for range 3 {
		// Not near the groups that the programs ignore.
		v4 := [4]byte{10, byte(random.Uint32()), byte(random.Uint32()), byte(random.Uint32())}
		v6 := [16]byte{0x20}
		for i := range v6[1:] {
			v6[i+1] = byte(random.Uint32())
		}
		m.stems = append(m.stems, netip.AddrFrom4(v4), netip.AddrFrom16(v6))
	}
	return m
}

func pick[T any](random *rand.Rand, from []T) T { return from[random.IntN(len(from))] }

// address is one of the stems, maybe with a bit flipped.
func (m *routeModel) address() netip.Addr {
	bytes := pick(m.random, m.stems).AsSlice()
	if m.random.IntN(3) > 0 {
		bit := m.random.IntN(8 * len(bytes))
		bytes[bit/8] ^= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(bytes)
	return a
}

func (m *routeModel) prefixes() []netip.Prefix {
	prefixes := make([]netip.Prefix, m.random.IntN(6))
	for i := range prefixes {
		a := m.address()
		prefixes[i] = netip.PrefixFrom(a, m.random.IntN(a.BitLen()+1))
	}
	return prefixes
}

// change does one thing that changes routes.
func (m *routeModel) change() {
	m.t.Helper()
	switch choice := m.random.IntN(10); {
	case len(m.peers) < 5 || choice < 4:
		prefixes := m.prefixes()
		id := m.d.mustAdd(prefixes...)
		m.peers = append(m.peers, id)
		m.claim(id, prefixes)
	case choice < 7:
		id, prefixes := pick(m.random, m.peers), m.prefixes()
		if m.random.IntN(2) == 0 {
			prefixes = append(prefixes, m.claimed(id)...)
		}
		if err := m.d.SetPrefixes(id, prefixes); err != nil {
			m.t.Fatal(err)
		}
		m.claim(id, prefixes)
	default:
		m.remove(pick(m.random, m.peers))
	}
}

func (m *routeModel) remove(id ID) {
	m.t.Helper()
	if err := m.d.Remove(id); err != nil {
		m.t.Fatal(err)
	}
	m.claim(id, nil)
	m.peers = slices.DeleteFunc(slices.Clone(m.peers), func(other ID) bool { return other == id })
}

// claim makes the prefixes the peer's only ones. Those that it had keep their
// place in line.
func (m *routeModel) claim(id ID, prefixes []netip.Prefix) {
	wanted := make(map[netip.Prefix]bool)
	for _, p := range prefixes {
		wanted[p.Masked()] = true
	}
	for p, claimants := range m.claims {
		i := slices.Index(claimants, id)
		if i >= 0 && !wanted[p] {
			m.claims[p] = slices.Delete(claimants, i, i+1)
		}
		if i >= 0 {
			delete(wanted, p)
		}
	}
	for p := range wanted {
		m.claims[p] = append(m.claims[p], id)
	}
}

// claimed are some of the peer's prefixes.
func (m *routeModel) claimed(id ID) []netip.Prefix {
	var prefixes []netip.Prefix
	for _, p := range slices.SortedFunc(maps.Keys(m.claims), netip.Prefix.Compare) {
		if slices.Contains(m.claims[p], id) && m.random.IntN(2) == 0 {
			prefixes = append(prefixes, p)
		}
	}
	return prefixes
}

// grow exchanges the tables for larger ones, which must say the same.
func (m *routeModel) grow() {
	m.t.Helper()
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	c := m.d.tables.capacity
	if err := m.d.grow(capacity{2 * c.peers, 2 * c.routes}); err != nil {
		m.t.Fatal(err)
	}
}

// compare sends packets to and from addresses near the prefixes.
func (m *routeModel) compare() {
	m.t.Helper()
	var table bart.Table[ID]
	for p, claimants := range m.claims {
		if len(claimants) > 0 {
			table.Insert(p, claimants[len(claimants)-1])
		}
	}
	for range 20 {
		a := m.address()
		want, routed := table.Lookup(a)
		m.d.mu.Lock()
		slot, found := m.d.lookup(a)
		m.d.mu.Unlock()
		if found != routed || routed && slot != want.Slot() {
			m.t.Errorf("lookup of %s: slot %d, %t; want %s, %t", a, slot, found, want, routed)
		}
		peer, host := netip.AddrPortFrom(a, 7), hostPort4
		if a.Is6() {
			host = hostPort6
		}
		// Long enough for whatever a test run takes for its EtherType.
		const payload = "as long as an IPv6 header without extensions"
		m.expect(Egress, udp(host, peer, payload), want, routed)
		m.expect(Ingress, udp(peer, host, payload), want, routed)
	}
	if m.t.Failed() {
		m.t.Fatalf("peers %v, claims %v", m.peers, m.claims)
	}
}

// expect runs a packet, which must count for this peer, or for none.
func (m *routeModel) expect(direction Direction, packet []byte, peer ID, routed bool) {
	m.t.Helper()
	var counted counts
	if routed {
		counted = m.d.counts(peer)
	} else {
		counted = m.d.counts()
	}
	m.d.run(direction, packet, skb{})
	if routed {
		counted.expect(direction, peer, 1, len(packet), Stats{})
	} else {
		counted.expect(direction, 0, 0, 0, Stats{Unrouted: 1})
	}
}

// TestRoutesShared follows a prefix through the hands of the peers that claim
// it. The last claim wins, as in WireGuard.
func TestRoutesShared(t *testing.T) {
	t.Parallel()
	d := newRig(t, Options{})
	shared := netip.MustParsePrefix("10.8.0.0/24")
	owner := func(want ID) {
		t.Helper()
		d.mu.Lock()
		defer d.mu.Unlock()
		if slot, ok := d.lookup(netip.MustParseAddr("10.8.0.9")); ok != (want != 0) || slot != want.Slot() {
			t.Errorf("owner is slot %d, %t; want %s", slot, ok, want)
		}
	}
	set := func(id ID, prefixes ...netip.Prefix) {
		t.Helper()
		if err := d.SetPrefixes(id, prefixes); err != nil {
			t.Fatal(err)
		}
	}

	first, second := d.mustAdd(single(peer4(2)), shared), d.mustAdd(single(peer4(3)), shared)
	owner(second)
	third := d.mustAdd(shared)
	owner(third)
	set(third)
	owner(second)
	set(first, shared) // it has claimed that before, so it is in the same place in line
	owner(second)
	set(first)
	set(first, shared)
	owner(first)
	if err := d.Remove(second); err != nil {
		t.Fatal(err)
	}
	owner(first)
	set(third, shared)
	if err := d.Remove(third); err != nil {
		t.Fatal(err)
	}
	owner(first)
	if err := d.Remove(first); err != nil {
		t.Fatal(err)
	}
	owner(0)
}

// TestLengths looks at the lists of prefix lengths after every single change of
// them, as a program may.
func TestLengths(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	l := newLengths()
	used := make([]int, 1<<8)
	show := func(next []uint8) error {
		var listed []int
		for _, head := range []int{head4, head6} {
			var list []int
			for e := next[head]; e != 0; e = next[e] {
				if len(list) > 128 {
					t.Fatal("the list has no end:", next)
				}
				list = append(list, int(e))
			}
			if !slices.IsSortedFunc(list, func(a, b int) int { return b - a }) {
				t.Fatalf("%d are not the longest first", list)
			}
			if slices.ContainsFunc(list, func(e int) bool { return (e >= element4) != (head == head4) }) {
				t.Fatalf("%d are of both families", list)
			}
			listed = append(listed, list...)
		}
		for e, n := range used {
			if n > 0 && !slices.Contains(listed, e) {
				t.Fatalf("%d lack %d", listed, e)
			}
		}
		return nil
	}
	for range 10_000 {
		e := uint8(1 + random.IntN(129+33))
		var err error
		if used[e] > 0 && random.IntN(2) == 0 {
			used[e]--
			err = l.remove(e, show)
		} else {
			err = l.add(e, show)
			used[e]++
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := show(l.next); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLengthsError has either change fail that it takes to add a length.
func TestLengthsError(t *testing.T) {
	refused := errors.New("refused")
	for calls := range 2 {
		l := newLengths()
		if err := l.add(element4+24, func([]uint8) error { return nil }); err != nil {
			t.Fatal(err)
		}
		before := slices.Clone(l.next)
		err := l.add(element4+16, func([]uint8) error {
			if calls--; calls < 0 {
				return refused
			}
			return nil
		})
		if !errors.Is(err, refused) {
			t.Errorf("add: %v", err)
		}
		// What the new element says counts only once another leads to it.
		before[element4+16] = l.next[element4+16]
		if !slices.Equal(l.next, before) || l.total != 1 {
			t.Errorf("the list is %v, want %v", l.next, before)
		}
	}
}
