// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"errors"
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/ringbuf"
)

// Direction is the way of a packet as seen from this host.
type Direction uint8

// The directions.
const (
	Egress  Direction = iota // to the peer
	Ingress                  // from the peer
)

// String returns "egress" or "ingress".
func (d Direction) String() string {
	if d == Ingress {
		return "ingress"
	}
	return "egress"
}

// NoUID is an Event's UID when no local socket sent the packet.
const NoUID = ^uint32(0)

// Event tells which packet woke a peer.
type Event struct {
	ID        ID
	Direction Direction
	// Time is when the packet passed the hook, by CLOCK_MONOTONIC.
	Time time.Time
	Flow Flow
	// Length of the packet in bytes, from the IP header on. With GSO it is
	// that of all packets which the kernel handles as one.
	Length int
	// Mark is the packet's mark (SO_MARK), 0 if it has none.
	Mark uint32
	// UID is the user whose socket sent the packet, as the user namespace knows
	// it that the network namespace belongs to; NoUID if it was received or
	// forwarded. A user unknown there is the overflow UID, 65534, and so is
	// whoever sent by a socket that is no whole one: bpf_get_socket_uid in
	// bpf-helpers(7).
	UID uint32
}

// decodeEvent reads a record of the ring buffer, which is aligned as the program
// has written it.
func decodeEvent(record []byte, c *clock) (Event, error) {
	if size := int(unsafe.Sizeof(bpfEvent{})); len(record) < size {
		return Event{}, fmt.Errorf("event of %d bytes, expected %d", len(record), size)
	}
	raw := (*bpfEvent)(unsafe.Pointer(&record[0]))
	captured := min(int(raw.Captured), len(raw.Packet))
	flow, _ := parse(raw.Packet[:captured])
	return Event{
		ID:        newID(raw.Slot, uint16(raw.Generation)),
		Direction: Direction(raw.Direction),
		Time:      c.at(raw.Time),
		Flow:      flow,
		Length:    int(raw.Length),
		Mark:      raw.Mark,
		UID:       raw.Uid,
	}, nil
}

// readEvents passes events on until the ring buffer is closed. While nobody
// takes them the ring buffer fills up, and then the kernel side keeps the
// peers armed: none is lost for good.
func (d *Detector) readEvents(ring *ringbuf.Reader) {
	defer func() {
		d.mu.Lock()
		d.quiet = true
		d.mu.Unlock()
		close(d.events)
	}()
	var record ringbuf.Record
	for {
		err := ring.ReadInto(&record)
		if errors.Is(err, ringbuf.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		event, err := decodeEvent(record.RawSample, d.clock)
		if err != nil {
			continue
		}
		if event.Direction == Ingress {
			// WireGuard has a session with the peer: nothing need wait for it.
			// The program has opened the gate already, unless packets do wait.
			d.openAnswered(event.ID)
		}
		select {
		case d.events <- event:
		case <-d.closing:
			return
		}
		// Whoever has taken it runs now and here. Else it would wait for another
		// thread to wake, as this one goes to sleep in the kernel.
		runtime.Gosched()
	}
}

// raise raises the event of a packet that waits before an armed gate. The
// programs have not done so if the gate was armed while the packet was on its
// way to the parking device, or if the ring buffer was full. With no room for
// events the gate stays as it is, as in the programs. The caller holds d.mu.
func (d *Detector) raise(r *bpfPeer, event Event) {
	gate := loadGate(r)
	woken := gate &^ bpfGateGATE_EGRESS
	if gate == woken || d.quiet || !swapGate(r, gate, woken) {
		return
	}
	select {
	case d.events <- event:
	default:
		swapGate(r, woken, gate)
	}
}
