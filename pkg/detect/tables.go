// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// tables are the maps whose size depends on the number of peers, and the
// programs that use them. They are replaced as a whole when one gets too small.
type tables struct {
	PeerEgress  *ebpf.Program  `ebpf:"peer_egress"`
	PeerIngress *ebpf.Program  `ebpf:"peer_ingress"`
	Peers       *ebpf.Map      `ebpf:"peers"`
	Routes4     *ebpf.Map      `ebpf:"routes4"`
	Routes6     *ebpf.Map      `ebpf:"routes6"`
	Next4       *ebpf.Variable `ebpf:"next4"`
	Next6       *ebpf.Variable `ebpf:"next6"`
	// InterfaceRules is one byte, as each element of the two before: a packet
	// sees the old or the new.
	InterfaceRules *ebpf.Variable `ebpf:"interface_rules"`

	capacity capacity
	memory   []byte // Peers, mapped
}

// capacity is how many entries the tables have room for.
type capacity struct{ peers, routes4, routes6 uint32 }

// minCapacity is what a detector starts with if Options say nothing.
const minCapacity = 1024

// fits says whether c has room for all of want.
func (c capacity) fits(want capacity) bool {
	return c.peers >= want.peers && c.routes4 >= want.routes4 && c.routes6 >= want.routes6
}

// grown is c, each number doubled until it is as large as in want.
func (c capacity) grown(want capacity) capacity {
	grow := func(have, want uint32) uint32 {
		for have < want {
			have *= 2
		}
		return have
	}
	return capacity{
		peers:   grow(c.peers, want.peers),
		routes4: grow(c.routes4, want.routes4),
		routes6: grow(c.routes6, want.routes6),
	}
}

// newTables loads maps of this capacity, empty, and programs that use them and
// the shared maps.
func newTables(spec *ebpf.CollectionSpec, c capacity, shared map[string]*ebpf.Map) (*tables, error) {
	spec = spec.Copy()
	spec.Maps[bpfMapPeers].MaxEntries = c.peers
	spec.Maps[bpfMapRoutes4].MaxEntries = c.routes4
	spec.Maps[bpfMapRoutes6].MaxEntries = c.routes6

	t := &tables{capacity: c}
	err := spec.LoadAndAssign(t, &ebpf.CollectionOptions{MapReplacements: shared})
	if err != nil {
		return nil, fmt.Errorf("load BPF programs: %w", err)
	}
	size := int(c.peers) * int(unsafe.Sizeof(bpfPeer{}))
	page := unix.Getpagesize()
	t.memory, err = unix.Mmap(t.Peers.FD(), 0, (size+page-1)/page*page,
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map peers into memory: %w", err), t.close())
	}
	return t, nil
}

func (t *tables) close() error {
	var err error
	if t.memory != nil {
		err = unix.Munmap(t.memory)
	}
	return errors.Join(err, t.PeerEgress.Close(), t.PeerIngress.Close(),
		t.Peers.Close(), t.Routes4.Close(), t.Routes6.Close())
}

// record is the peer's record in the memory that the kernel writes too: read
// and change its fields by atomic operations.
func (t *tables) record(slot uint32) *bpfPeer {
	offset := uintptr(slot) * unsafe.Sizeof(bpfPeer{})
	return (*bpfPeer)(unsafe.Pointer(&t.memory[offset]))
}

// route returns the map of the prefix's family and its key there.
func (t *tables) route(p netip.Prefix) (*ebpf.Map, any) {
	if p.Addr().Is4() {
		a := p.Addr().As4()
		return t.Routes4, &bpfRoute4{Length: uint32(p.Bits()), Address: binary.NativeEndian.Uint32(a[:])}
	}
	a := p.Addr().As16()
	key := &bpfRoute6{Length: uint32(p.Bits())}
	for i := range key.Address {
		key.Address[i] = binary.NativeEndian.Uint32(a[4*i:])
	}
	return t.Routes6, key
}

// insert adds a route. Error: ebpf.ErrKeyExist if another slot has it.
func (t *tables) insert(p netip.Prefix, slot uint32) error {
	routes, key := t.route(p)
	return update(routes, key, slot, ebpf.UpdateNoExist)
}

// replace makes a route that exists lead to slot, without a moment in between.
func (t *tables) replace(p netip.Prefix, slot uint32) error {
	routes, key := t.route(p)
	return update(routes, key, slot, ebpf.UpdateExist)
}

func (t *tables) remove(p netip.Prefix) error {
	routes, key := t.route(p)
	return routes.Delete(key)
}

// owner is the slot that a route leads to. Error: ebpf.ErrKeyNotExist.
func (t *tables) owner(p netip.Prefix) (uint32, error) {
	routes, key := t.route(p)
	var slot uint32
	err := routes.Lookup(key, &slot)
	return slot, err
}

// update tries again on ENOMEM: maps that are not preallocated take memory
// from a per-CPU cache, which the kernel fills up behind.
func update(m *ebpf.Map, key, value any, flags ebpf.MapUpdateFlags) error {
	const attempts = 100
	var err error
	for range attempts {
		if err = m.Update(key, value, flags); !errors.Is(err, unix.ENOMEM) {
			return err
		}
		_ = unix.Nanosleep(&unix.Timespec{Nsec: 100_000}, nil)
	}
	return err
}

// reserve makes room for that many slots and for prefixes on top of what is
// there. The caller holds d.mu.
func (d *Detector) reserve(slots uint32, prefixes []netip.Prefix) error {
	want := capacity{peers: slots, routes4: d.lengths4.total, routes6: d.lengths6.total}
	for _, p := range prefixes {
		if p.Addr().Is4() {
			want.routes4++
		} else {
			want.routes6++
		}
	}
	if d.tables.capacity.fits(want) {
		return nil
	}
	if err := d.grow(d.tables.capacity.grown(want)); err != nil {
		return fmt.Errorf("grow tables: %w", err)
	}
	return nil
}

// grow replaces the tables by larger ones while packets keep coming. The new
// ones are complete before a program uses them; the programs are exchanged in
// the array through which the hooks reach them, so that every packet runs
// through the old or the new ones; what the old ones count in their last
// moments is added afterwards. The caller holds d.mu.
func (d *Detector) grow(c capacity) error {
	old := d.tables
	larger, err := newTables(d.spec, c, d.shared.replacements())
	if err != nil {
		return explain(err)
	}
	if err := d.fill(larger); err != nil {
		return errors.Join(err, larger.close())
	}
	copied := make([]bpfPeer, len(d.slots))
	for i := range copied {
		copied[i] = snapshot(old.record(uint32(i)))
		*larger.record(uint32(i)) = copied[i]
	}
	if err := d.shared.run(larger); err != nil {
		return errors.Join(err, d.shared.run(old), larger.close())
	}
	d.tables = larger
	awaitReaders()
	for i, before := range copied {
		larger.record(uint32(i)).add(before, snapshot(old.record(uint32(i))))
	}
	return errors.Join(d.repin(), old.close())
}

// fill writes into other tables all that packets are looked up by: the routes,
// the lengths of prefixes, and which set of rules the interface has.
func (d *Detector) fill(to *tables) error {
	for i := range d.slots {
		for _, p := range d.slots[i].prefixes {
			if !d.owns(p, uint32(i)) {
				continue
			}
			if err := to.insert(p, uint32(i)); err != nil {
				return fmt.Errorf("copy %s: %w", p, err)
			}
		}
	}
	return errors.Join(
		to.Next4.Set(d.lengths4.next),
		to.Next6.Set(d.lengths6.next),
		to.InterfaceRules.Set(d.interfaceRules),
	)
}

// awaitReaders returns when every BPF program that was running has ended.
func awaitReaders() {
	// The kernel serves MEMBARRIER_CMD_GLOBAL by waiting for an RCU grace
	// period: membarrier(2). It refuses on nohz_full CPUs; then wait for much
	// longer than a program runs.
	const commandGlobal = 1
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, commandGlobal, 0, 0); errno != 0 {
		time.Sleep(100 * time.Millisecond)
	}
}

// snapshot reads a record field by field. Generation and rules are Go's alone
// to change.
func snapshot(r *bpfPeer) bpfPeer {
	return bpfPeer{
		Gate:       loadGate(r),
		Generation: r.Generation,
		Rules:      r.Rules,
		LastTx:     atomic.LoadUint64(&r.LastTx),
		LastRx:     atomic.LoadUint64(&r.LastRx),
		TxPackets:  atomic.LoadUint64(&r.TxPackets),
		TxBytes:    atomic.LoadUint64(&r.TxBytes),
		RxPackets:  atomic.LoadUint64(&r.RxPackets),
		RxBytes:    atomic.LoadUint64(&r.RxBytes),
		Held:       atomic.LoadUint32(&r.Held),
		Released:   atomic.LoadUint32(&r.Released),
	}
}

// add brings into r what happened to its predecessor after it was copied.
func (r *bpfPeer) add(copied, final bpfPeer) {
	// The programs only ever take bits off a gate.
	atomic.AndUint32((*uint32)(&r.Gate), ^uint32(copied.Gate&^final.Gate))
	later(&r.LastTx, final.LastTx)
	later(&r.LastRx, final.LastRx)
	atomic.AddUint64(&r.TxPackets, final.TxPackets-copied.TxPackets)
	atomic.AddUint64(&r.TxBytes, final.TxBytes-copied.TxBytes)
	atomic.AddUint64(&r.RxPackets, final.RxPackets-copied.RxPackets)
	atomic.AddUint64(&r.RxBytes, final.RxBytes-copied.RxBytes)
	atomic.AddUint32(&r.Held, final.Held-copied.Held)
}

// later raises a time to at least ns.
func later(at *uint64, ns uint64) {
	for {
		have := atomic.LoadUint64(at)
		if have >= ns || atomic.CompareAndSwapUint64(at, have, ns) {
			return
		}
	}
}
