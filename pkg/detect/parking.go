// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// parking receives the packets that the egress program keeps back, on the
// parking device, and has them until their peers are opened. The device is a
// TUN device without offloads: what comes out of it are plain IP packets,
// checksums finished and GSO split by the kernel.
//
// One goroutine (run) reads the device and has the queues; others hand it
// functions to call.
//
// The device is the lock of the detector, too: its name follows from the
// watched device's index, one process can have it, and it vanishes with that
// process.
type parking struct {
	d      *Detector
	file   *os.File
	fd     int
	raw    syscall.RawConn
	index  int // of the device
	replay *replayer
	limits Hold
	groups bool // packets to groups of the link are held, too

	tasks chan func(*parking)
	ended chan struct{}

	// Of the goroutine that runs.
	buffer []byte
	bytes  int // held of all peers
	opened ID  // the peer whose packets need not be held any longer
}

const tunPath = "/dev/net/tun"

// parkingName is the name of the parking device for the device of this index.
func parkingName(ifindex int) string { return fmt.Sprintf("lazy%d", ifindex) }

// parkingQueue is how many packets the parking device has room for: a burst to
// many peers must fit.
const parkingQueue = 4096

// maxHeldBytes bounds what is held of all peers of a detector together.
const maxHeldBytes = 64 << 20

// newParking makes the parking device for the device of this index. Error:
// ErrBusy if it exists.
func newParking(d *Detector, nl *netlink.Handle, ifindex int, options Options) (*parking, error) {
	fd, err := unix.Open(tunPath, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, explain(fmt.Errorf("open %s: %w", tunPath, err))
	}
	name := parkingName(ifindex)
	request, err := unix.NewIfreq(name)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		if errors.Is(err, unix.EBUSY) {
			err = fmt.Errorf("%w: it has the parking device %s", ErrBusy, name)
		} else {
			err = fmt.Errorf("create parking device %s: %w", name, explain(err))
		}
		return nil, errors.Join(err, unix.Close(fd))
	}
	p := &parking{
		d: d, fd: fd, file: os.NewFile(uintptr(fd), name),
		limits: options.Hold.withDefaults(), groups: options.CountMulticast,
		tasks: make(chan func(*parking), 64), ended: make(chan struct{}),
		buffer: make([]byte, 1<<16),
	}
	if err := p.setUp(nl, name, ifindex); err != nil {
		return nil, errors.Join(fmt.Errorf("set up parking device: %w", err), p.file.Close())
	}
	return p, nil
}

// setUp brings the device up, on which the kernel has nothing of its own to say:
// in IPv4 because it has no address there, and in IPv6, where it reports groups
// even so, because IPv6 is not on a device as narrow as this. The packets that
// the egress program sends there have any size.
func (p *parking) setUp(nl *netlink.Handle, name string, watched int) error {
	const tooNarrow = 1280 - 1
	link, err := nl.LinkByName(name)
	if err != nil {
		return err
	}
	p.index = link.Attrs().Index
	if err := nl.LinkSetMTU(link, tooNarrow); err != nil {
		return err
	}
	if err := nl.LinkSetTxQLen(link, parkingQueue); err != nil {
		return err
	}
	if err := nl.LinkSetUp(link); err != nil {
		return err
	}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		return err
	}
	p.replay, err = newReplayer(watched)
	return err
}

// run serves the device until it is closed.
func (p *parking) run() {
	defer close(p.ended)
	for {
		err := p.raw.Read(func(uintptr) bool {
			return p.drain() == parkingQueue // else wait until there is more, or the deadline
		})
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		// The deadline is how do interrupts the read. It is reset before the
		// tasks are taken, so that a task that comes later interrupts anew.
		_ = p.file.SetReadDeadline(time.Time{})
		if err := p.raw.Control(p.runTasks); err != nil {
			return
		}
	}
}

// runTasks calls the functions that wait. It runs where the descriptor cannot
// be closed, since they read from it.
func (p *parking) runTasks(uintptr) {
	for {
		select {
		case task := <-p.tasks:
			task(p)
		default:
			return
		}
	}
}

// do calls f in the goroutine that has the queues, and waits for it. Error:
// ErrClosed.
func (p *parking) do(f func(*parking)) error {
	done := make(chan struct{})
	task := func(p *parking) { f(p); close(done) }
	select {
	case p.tasks <- task:
	case <-p.ended:
		return ErrClosed
	}
	_ = p.file.SetReadDeadline(time.Unix(1, 0))
	select {
	case <-done:
		return nil
	case <-p.ended:
		return ErrClosed
	}
}

// close ends the goroutine and removes the device.
func (p *parking) close() error {
	err := p.file.Close()
	<-p.ended
	return errors.Join(err, p.replay.close())
}

// drain takes off the device what is there now, and returns how many packets
// that was. Senders may be faster: it stops at as many as the device has room for.
func (p *parking) drain() int {
	packets := 0
	for packets < parkingQueue {
		n, err := unix.Read(p.fd, p.buffer)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n <= 0 {
			break
		}
		p.accept(p.buffer[:n])
		packets++
	}
	return packets
}

// accept queues a packet for its peer, or sends it on if the gate was opened
// while it was on its way. What belongs to no peer is not ours to send, nor is
// what the programs do not hold: others may send to this device, too.
func (p *parking) accept(packet []byte) {
	flow, payload := parse(packet)
	to := flow.Destination.Addr()
	if !to.IsValid() || isLocal(to) && !p.groups {
		return
	}
	p.d.mu.Lock()
	slot, ok := p.d.lookup(to)
	if !ok || p.d.closed {
		p.d.mu.Unlock()
		return
	}
	s, r := &p.d.slots[slot], p.d.tables.record(slot)
	if s.queue == nil {
		s.queue = new(queue)
	}
	q, id := s.queue, newID(slot, s.generation)
	hold := loadGate(r)&bpfGateGATE_HOLD != 0 && id != p.opened
	if hold {
		p.d.raise(r, Event{ID: id, Direction: Egress, Time: time.Now(), Flow: flow, Length: len(packet), UID: NoUID})
	}
	p.d.mu.Unlock()

	held := heldPacket{bytes: packet, protocol: protocolOf(packet), at: time.Now()}
	if isSYN(flow, payload) {
		held.syn = flow
	}
	switch {
	case !hold:
		p.send(q, held)
	case p.bytes+len(packet) > maxHeldBytes:
		q.dropped.Add(1)
	default:
		p.bytes += q.push(held, p.limits)
	}
	p.report(id, q)
}

// isLocal says whether packets to an address stay on the link, as is_local4 and
// is_local6 of bpf/lazybpf.c do.
func isLocal(a netip.Addr) bool {
	return a.IsLinkLocalMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

func (p *parking) send(q *queue, held heldPacket) {
	if p.replay.send(held) != nil {
		q.dropped.Add(1)
		return
	}
	q.replayed.Add(1)
}

// report tells the programs how many of the peer's packets wait no longer.
func (p *parking) report(id ID, q *queue) {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if _, r, err := p.d.peer(id); err == nil {
		atomic.StoreUint32(&r.Released, uint32(q.replayed.Load()+q.dropped.Load()))
	}
}

// release sends what is held of the peer, and opens its gate.
func (p *parking) release(id ID) {
	p.sendAll(id)
	p.open(id)
}

// sendAll empties the peer's queue in order.
func (p *parking) sendAll(id ID) {
	q := p.queue(id)
	if q == nil {
		return
	}
	oldest := time.Now().Add(-p.limits.Timeout)
	for _, held := range p.take(q) {
		if held.at.Before(oldest) {
			q.dropped.Add(1)
			continue
		}
		p.send(q, held)
	}
	p.report(id, q)
}

// discard drops what is held of the peer, and opens its gate.
func (p *parking) discard(id ID) {
	p.drain()
	if q := p.queue(id); q != nil {
		q.dropped.Add(uint64(len(p.take(q))))
		p.report(id, q)
	}
	p.open(id)
}

// take empties a queue.
func (p *parking) take(q *queue) []heldPacket {
	p.bytes -= q.bytes
	return q.take()
}

// queue returns the peer's queue, nil if it has none.
func (p *parking) queue(id ID) *queue {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	s, _, err := p.d.peer(id)
	if err != nil {
		return nil
	}
	return s.queue
}

// open opens the gate of a peer whose queue is empty. Packets that come until
// then are sent at once, and while one of them is on its way the program sends
// those behind it the same way: none overtakes another. Only a sender that is
// faster than the replay all the time makes it end otherwise.
func (p *parking) open(id ID) {
	const limit = 50 * time.Millisecond
	p.opened = id
	defer func() { p.opened = 0 }()
	for start := time.Now(); time.Since(start) < limit; {
		if p.openGate(id, false) {
			return
		}
		if p.drain() == 0 {
			time.Sleep(10 * time.Microsecond) // a packet is between the gate and the device
		}
	}
	p.openGate(id, true)
	awaitReaders()
	p.drain()
	p.settle(id)
}

// openGate opens the gate unless packets wait before it, and says whether there
// is nothing more to do: the peer may have been armed or removed meanwhile.
func (p *parking) openGate(id ID, force bool) bool {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	_, r, err := p.d.peer(id)
	if err != nil || loadGate(r) != bpfGateGATE_DRAINING {
		return true
	}
	if waiting(r) && !force {
		return false
	}
	storeGate(r, bpfGateGATE_OPEN)
	return true
}

// settle closes the books of a peer whose gate is open and of which nothing is
// on its way: what was counted as held and never arrived was lost on the
// parking device.
func (p *parking) settle(id ID) {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	s, r, err := p.d.peer(id)
	if err != nil || loadGate(r)&bpfGateGATE_HOLD != 0 {
		return
	}
	released := atomic.LoadUint32(&r.Released)
	switch lost := int32(atomic.LoadUint32(&r.Held) - released); {
	case lost > 0:
		if s.queue == nil {
			s.queue = new(queue)
		}
		s.queue.dropped.Add(uint64(lost))
		atomic.AddUint32(&r.Released, uint32(lost))
	case lost < 0: // before they arrived their prefix went from another peer to this one
		atomic.AddUint32(&r.Held, uint32(-lost))
	}
}

// releaseAll sends what is held of every peer: the hooks are gone.
func (p *parking) releaseAll() {
	for p.drain() > 0 {
	}
	p.d.mu.Lock()
	var holding []ID
	for i := range p.d.slots {
		if s := &p.d.slots[i]; s.used && s.queue != nil {
			holding = append(holding, newID(uint32(i), s.generation))
		}
	}
	p.d.mu.Unlock()
	for _, id := range holding {
		p.sendAll(id)
	}
}
