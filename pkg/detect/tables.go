// SPDX-License-Identifier: Apache-2.0

package detect

import (
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
	Routes      *ebpf.Map      `ebpf:"routes"`
	Next        *ebpf.Variable `ebpf:"next"`
	// InterfaceRules is one byte, as each element of Next: a packet sees the old
	// or the new.
	InterfaceRules *ebpf.Variable `ebpf:"interface_rules"`

	capacity capacity
	peers    []byte // Peers, mapped
	memory   []byte // Routes, mapped
	routes   routeTable
}

// capacity is how many entries the tables have room for.
type capacity struct{ peers, routes uint32 }

// minCapacity is what a detector starts with if Options say nothing.
const minCapacity = 1024

// fits says whether c has room for all of want.
func (c capacity) fits(want capacity) bool {
	return c.peers >= want.peers && c.routes >= want.routes
}

// grown is c, each number doubled until it is as large as in want.
func (c capacity) grown(want capacity) capacity {
	grow := func(have, want uint32) uint32 {
		for have < want {
			have *= 2
		}
		return have
	}
	return capacity{grow(c.peers, want.peers), grow(c.routes, want.routes)}
}

// newTables loads maps of this capacity, empty, and programs that use them and
// the shared maps.
func newTables(spec *ebpf.CollectionSpec, c capacity, shared map[string]*ebpf.Map) (*tables, error) {
	spec = spec.Copy()
	buckets, shift := bucketsFor(c.routes)
	spec.Maps[bpfMapPeers].MaxEntries = c.peers
	spec.Maps[bpfMapRoutes].MaxEntries = buckets
	var factors hashFactors
	err := errors.Join(
		spec.Variables[bpfVarRoutesShift].Set(shift),
		spec.Variables[bpfVarHashFactors].Get(&factors),
	)
	if err != nil {
		return nil, err
	}

	t := &tables{capacity: c}
	err = spec.LoadAndAssign(t, &ebpf.CollectionOptions{MapReplacements: shared})
	if err != nil {
		return nil, fmt.Errorf("load BPF programs: %w", err)
	}
	if t.peers, err = mapMemory(t.Peers); err == nil {
		t.memory, err = mapMemory(t.Routes)
	}
	if err != nil {
		return nil, errors.Join(err, t.close())
	}
	t.routes = newRouteTable(t.memory, factors, buckets, shift)
	return t, nil
}

// mapMemory maps an array into memory.
func mapMemory(m *ebpf.Map) ([]byte, error) {
	size, page := int(m.MaxEntries())*int(m.ValueSize()), unix.Getpagesize()
	memory, err := unix.Mmap(m.FD(), 0, (size+page-1)/page*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s into memory: %w", m, err)
	}
	return memory, nil
}

func (t *tables) close() error {
	var errs []error
	for _, memory := range [][]byte{t.peers, t.memory} {
		if memory != nil {
			errs = append(errs, unix.Munmap(memory))
		}
	}
	return errors.Join(append(errs, t.PeerEgress.Close(), t.PeerIngress.Close(), t.Peers.Close(), t.Routes.Close())...)
}

// record is the peer's record in the memory that the kernel writes too: read
// and change its fields by atomic operations.
func (t *tables) record(slot uint32) *bpfPeer {
	offset := uintptr(slot) * unsafe.Sizeof(bpfPeer{})
	return (*bpfPeer)(unsafe.Pointer(&t.peers[offset]))
}

// reserve makes room for that many slots and for prefixes on top of what is
// there. The caller holds d.mu.
func (d *Detector) reserve(slots uint32, prefixes []netip.Prefix) error {
	more := uint32(len(prefixes))
	if d.tables.capacity.fits(capacity{slots, d.tables.routes.used + more}) {
		return nil
	}
	// Of the routes those of nobody do not come along. There is to be room for
	// half as many again, so that the next tables are not full at once.
	want := capacity{slots, d.lengths.total + d.lengths.total/2 + more}
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
	if !old.routes.copyTo(&larger.routes) { // seldom: see claim
		if err := larger.close(); err != nil {
			return err
		}
		return d.grow(capacity{c.peers, 2 * c.routes})
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
	if err := d.repin(); err != nil { // pins are to look at: peers need none
		_ = d.pins.remove()
		d.pins = nil
	}
	return old.close()
}

// fill writes into tables by what else than routes packets are looked up: the
// lengths of prefixes, and which set of rules the interface has.
func (d *Detector) fill(t *tables) error {
	return errors.Join(t.Next.Set(d.lengths.next), t.InterfaceRules.Set(d.interfaceRules))
}

// publish makes what was stored before visible to the programs no later than what
// is stored after it, as Variable.Set and other plain stores need on arm64: no
// store passes an atomic one that follows it or an atomic load that it follows,
// and these two stay in order (STLR and LDAR, Arm ARM B2.3).
func publish() {
	fence.Store(0)
	fence.Load()
}

var fence atomic.Uint32

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
