// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
)

// ID names a peer of a detector: the slot of its record, and which of the
// slot's peers it is. The zero ID names none.
type ID uint64

func newID(slot uint32, generation uint16) ID { return ID(generation)<<32 | ID(slot) }

// Slot is the index of the peer's record in the BPF map "peers".
func (id ID) Slot() uint32 { return uint32(id) }

// Generation tells the peers apart that have had the same slot; at least 1.
func (id ID) Generation() uint16 { return uint16(id >> 32) }

// String gives slot and generation as "17.1".
func (id ID) String() string { return fmt.Sprintf("%d.%d", id.Slot(), id.Generation()) }

// Activity is what a peer's record says. Counters are those of packets that
// passed the device's tc hooks, in either direction: payload, never
// WireGuard's own handshakes and keepalives.
type Activity struct {
	// LastTx and LastRx are those of packets that keep the peer awake, which is
	// all unless rules say otherwise; zero if there was none yet. They are too
	// early by up to two ticks of the kernel and a millisecond, 3 to 21 ms, never
	// too late; time in suspend does not count (CLOCK_MONOTONIC_COARSE).
	LastTx, LastRx       time.Time
	TxPackets, RxPackets uint64
	// Bytes include IP headers, not WireGuard's overhead.
	TxBytes, RxBytes uint64
	// Held packets were kept back. Replayed ones of those have been sent, in
	// which case they count as TxPackets, dropped ones were discarded, expired
	// or did not fit the queue. The others are waiting.
	Held, Replayed, Dropped uint64
}

// Last is the later of LastTx and LastRx.
func (a Activity) Last() time.Time {
	if a.LastRx.After(a.LastTx) {
		return a.LastRx
	}
	return a.LastTx
}

// Packets is the number of packets that passed in either direction or were held.
func (a Activity) Packets() uint64 { return a.TxPackets + a.RxPackets + a.Held }

// slot is what Go knows of the peer that has a record.
type slot struct {
	generation uint16 // of the peer that has it, or had it last
	used       bool
	prefixes   []netip.Prefix
	queue      *queue // nil until a packet was held
}

// resting is how many slots without peer are left alone, those that had one last: a
// packet that still has a slot in hand is through before the slot has a new peer.
const resting = 64

// Add makes the detector watch a peer: traffic to and from the prefixes is
// its own from now on, as far as no longer prefix of another peer matches.
// Several peers may have the same prefix: then the last one added owns it, as
// in WireGuard, and the one before owns it again when that one is gone. The
// peer's gate is open: packets pass and are counted, and raise no event.
// The detector keeps the slice, which nobody may change afterwards.
//
// Add grows the kernel's tables as needed. Errors: ErrPrefix, ErrClosed, and
// those of the kernel; then nothing has changed.
func (d *Detector) Add(prefixes []netip.Prefix) (ID, error) {
	prefixes, err := canonical(prefixes)
	if err != nil {
		return 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return 0, ErrClosed
	}
	index, fresh := uint32(len(d.slots)), len(d.free) <= resting
	if !fresh {
		index = d.free[0]
	}
	if err := d.reserve(index+1, prefixes); err != nil {
		return 0, err
	}
	if fresh {
		d.slots = append(d.slots, slot{})
	} else {
		d.free = d.free[1:]
	}

	// The record must be whole before a route leads to it.
	generation := max(1, d.slots[index].generation+1)
	*d.tables.record(index) = bpfPeer{Generation: generation}
	if err := d.claimAll(index, prefixes); err != nil {
		d.free = append(d.free, index)
		return 0, fmt.Errorf("add prefixes: %w", err)
	}
	d.slots[index] = slot{generation: generation, used: true, prefixes: prefixes}
	return newID(index, generation), nil
}

// SetPrefixes replaces a peer's prefixes, and keeps the slice as Add does. A
// prefix that stays is never without owner meanwhile, and if that is another peer,
// it still is: only one that is new here, or comes back, goes to this peer. Errors
// as those of Add, and ErrUnknownPeer; then nothing has changed.
func (d *Detector) SetPrefixes(id ID, prefixes []netip.Prefix) error {
	prefixes, err := canonical(prefixes)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s, _, err := d.peer(id)
	if err != nil {
		return err
	}
	added := difference(prefixes, s.prefixes)
	if err := d.reserve(0, added); err != nil {
		return err
	}
	if err := d.claimAll(id.Slot(), added); err != nil {
		return fmt.Errorf("change prefixes: %w", err)
	}
	removed := difference(s.prefixes, prefixes)
	s.prefixes = prefixes
	return d.disclaimAll(id.Slot(), removed)
}

// Remove forgets a peer and drops what is held of it. Its ID is not used again
// before 65,534 others have had its record; an event of it may still come.
// Errors: ErrUnknownPeer, ErrClosed.
func (d *Detector) Remove(id ID) error {
	if err := d.Discard(id); err != nil {
		return err
	}
	q, err := d.forget(id)
	if q != nil { // which has packets if somebody has armed the peer meanwhile
		err = errors.Join(err, d.parking.do(func(p *parking) { p.take(q) }))
	}
	return err
}

// forget takes a peer's prefixes and its record from it, and returns its queue.
func (d *Detector) forget(id ID) (*queue, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s, r, err := d.peer(id)
	if err != nil {
		return nil, err
	}
	q := s.queue
	err = d.disclaimAll(id.Slot(), s.prefixes)
	storeGate(r, bpfGateGATE_OPEN)
	d.changeRules(r, 0)
	*s = slot{generation: s.generation}
	d.free = append(d.free, id.Slot())
	return q, err
}

// Arm makes the peer's next packet raise an event, and no packet after it until
// the peer is armed again. With hold, packets to the peer wait from now on until
// Open, and both the next packet to the peer and, as long as none has come, the
// next from it raise an event. A packet from the peer opens the gate by itself,
// since WireGuard then has a session with it. What waits already goes on
// waiting, with hold or without. A packet that was on its way to its queue
// raises the event when it gets there; the event then has the time of that, and
// neither mark nor UID.
//
// Packets that do not wake, by a Rule, pass an armed gate as an open one. They
// wait with the others once one of those has raised its event.
//
// Arm makes no system call. Errors: ErrUnknownPeer, ErrClosed.
func (d *Detector) Arm(id ID, hold bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, r, err := d.peer(id)
	if err != nil {
		return err
	}
	gate := bpfGateGATE_ARMED
	if hold || waiting(r) {
		gate = bpfGateGATE_ARMED_HOLD
	}
	storeGate(r, gate)
	return nil
}

// Open sends what is held of the peer, in order, and lets packets pass from
// then on. It returns when that is done. A packet that was held has lost its
// mark and its socket, for programs behind those of the detector, too. Errors:
// ErrUnknownPeer, ErrClosed.
func (d *Detector) Open(id ID) error { return d.openGate(id, (*parking).release) }

// Discard drops what is held of the peer and lets packets pass from then on,
// unobserved: WireGuard then answers for the peer, if need be by ICMP
// unreachable. Errors: ErrUnknownPeer, ErrClosed.
func (d *Detector) Discard(id ID) error { return d.openGate(id, (*parking).discard) }

// openGate opens the gate at once where nothing waits before it; else settle,
// in the goroutine that has the packets, decides what becomes of them.
func (d *Detector) openGate(id ID, settle func(*parking, ID)) error {
	d.mu.Lock()
	_, r, err := d.peer(id)
	if err != nil {
		d.mu.Unlock()
		return err
	}
	if loadGate(r)&bpfGateGATE_HOLD != 0 {
		storeGate(r, bpfGateGATE_DRAINING)
	}
	waits := waiting(r)
	if !waits {
		storeGate(r, bpfGateGATE_OPEN)
	}
	d.mu.Unlock()
	if !waits {
		return nil
	}
	return d.parking.do(func(p *parking) { settle(p, id) })
}

// openAnswered opens the gate before which packets wait though the peer has
// answered; not one that was armed again since.
func (d *Detector) openAnswered(id ID) {
	d.mu.Lock()
	_, r, err := d.peer(id)
	answered := err == nil && swapGate(r, bpfGateGATE_HOLD, bpfGateGATE_DRAINING)
	d.mu.Unlock()
	if answered {
		_ = d.parking.do(func(p *parking) { p.release(id) }) // it fails once the parking is closed
	}
}

// Activity reads the peer's record; no system call. Errors: ErrUnknownPeer,
// ErrClosed.
func (d *Detector) Activity(id ID) (Activity, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s, r, err := d.peer(id)
	if err != nil {
		return Activity{}, err
	}
	a := Activity{
		LastTx:    d.clock.at(atomic.LoadUint64(&r.LastTx)),
		LastRx:    d.clock.at(atomic.LoadUint64(&r.LastRx)),
		TxPackets: atomic.LoadUint64(&r.TxPackets),
		RxPackets: atomic.LoadUint64(&r.RxPackets),
		TxBytes:   atomic.LoadUint64(&r.TxBytes),
		RxBytes:   atomic.LoadUint64(&r.RxBytes),
		Held:      uint64(atomic.LoadUint32(&r.Held)),
	}
	if s.queue != nil {
		a.Replayed, a.Dropped = s.queue.replayed.Load(), s.queue.dropped.Load()
	}
	return a, nil
}

// peer finds what there is of a peer. The caller holds d.mu, and may use the
// record while it does.
func (d *Detector) peer(id ID) (*slot, *bpfPeer, error) {
	if d.closed {
		return nil, nil, ErrClosed
	}
	if int64(id.Slot()) >= int64(len(d.slots)) {
		return nil, nil, fmt.Errorf("%w: %s", ErrUnknownPeer, id)
	}
	s := &d.slots[id.Slot()]
	if !s.used || id != newID(id.Slot(), s.generation) {
		return nil, nil, fmt.Errorf("%w: %s", ErrUnknownPeer, id)
	}
	return s, d.tables.record(id.Slot()), nil
}

// waiting says whether packets of the peer are, or may be, before its gate.
func waiting(r *bpfPeer) bool {
	return loadGate(r)&bpfGateGATE_HOLD != 0 &&
		atomic.LoadUint32(&r.Held) != atomic.LoadUint32(&r.Released)
}

func loadGate(r *bpfPeer) bpfGate {
	return bpfGate(atomic.LoadUint32((*uint32)(&r.Gate)))
}

func storeGate(r *bpfPeer, gate bpfGate) {
	atomic.StoreUint32((*uint32)(&r.Gate), uint32(gate))
}

// swapGate changes a gate that is as expected, and says whether it was.
func swapGate(r *bpfPeer, from, to bpfGate) bool {
	return atomic.CompareAndSwapUint32((*uint32)(&r.Gate), uint32(from), uint32(to))
}

// canonical returns the prefixes with host bits cleared, each once and in order.
// If they are so already, as what is read of a device is, it is the same slice.
func canonical(prefixes []netip.Prefix) ([]netip.Prefix, error) {
	already := true
	for i, p := range prefixes {
		if !p.IsValid() || p.Addr().Is4In6() {
			return nil, fmt.Errorf("%w: %s", ErrPrefix, p)
		}
		already = already && p == p.Masked() && (i == 0 || prefixes[i-1].Compare(p) < 0)
	}
	if already {
		return prefixes, nil
	}
	masked := make([]netip.Prefix, len(prefixes))
	for i, p := range prefixes {
		masked[i] = p.Masked()
	}
	slices.SortFunc(masked, netip.Prefix.Compare)
	return slices.Clip(slices.Compact(masked)), nil
}

// difference returns the elements of a that are not in b; both are canonical.
func difference(a, b []netip.Prefix) []netip.Prefix {
	var only []netip.Prefix
	for _, p := range a {
		if _, found := slices.BinarySearchFunc(b, p, netip.Prefix.Compare); !found {
			only = append(only, p)
		}
	}
	return only
}
