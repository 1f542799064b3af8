// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"encoding/binary"
	"net/netip"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/pkg/detect"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// world is what a simulated hub lives in: a real detector, outside of synctest's
// bubble, as the manager inside sees it.
//
// The programs write the kernel's time into a record. Right after that world
// writes simulated time over it, and where the manager reads times they are
// brought from the one clock to the other.
//
// It knows who has talked when, by itself, and so sees mistakes.
type world struct {
	*detect.Detector
	b       testing.TB
	peers   int
	outside time.Time     // the real time that is the beginning
	kernel  time.Duration // the same on CLOCK_MONOTONIC
	inside  time.Time     // the simulated one
	events  chan detect.Event
	hooks   [2]*ebpf.Program // egress, ingress
	packet4 [28]byte         // IPv4 and UDP
	records []byte           // the map of that ID
	mapID   ebpf.MapID
	fields  map[string]uintptr // of a record, and its size as ""
	slots   []uint32           // of the peers
	undo    []func() error

	present      []bool
	open         []atomic.Bool  // opened, and not closed since
	talked       []atomic.Int64 // since the beginning; 0: never
	packets      int
	samples      []time.Duration // of what a packet takes
	missed       int             // packets to a peer that nobody opened
	neverParked  int
	parkedActive atomic.Int64
	wakes        atomic.Int64
	sleeps       atomic.Int64
}

func newWorld(b testing.TB, peers int) *world {
	b.Helper()
	n := newNetwork(b)
	d, err := detect.New(detect.Options{Interface: n.Here.Name, Peers: 1 << 20})
	if err != nil {
		b.Fatal(err)
	}
	w := &world{
		Detector: d, b: b, peers: peers,
		present: make([]bool, peers), open: make([]atomic.Bool, peers), talked: make([]atomic.Int64, peers),
		slots: make([]uint32, peers),
	}
	w.undo = append(w.undo, d.Close)
	link, err := netlink.LinkByName(n.Here.Name)
	w.check(err)
	for i, hook := range []ebpf.AttachType{ebpf.AttachTCXEgress, ebpf.AttachTCXIngress} {
		ids, err := labtest.TCXPrograms(link.Attrs().Index, hook)
		w.check(err)
		if len(ids) != 1 {
			b.Skip("it finds the programs by tcx, which needs Linux 6.6")
		}
		w.hooks[i], err = ebpf.NewProgramFromID(ids[0])
		w.check(err)
		w.undo = append(w.undo, w.hooks[i].Close)
	}
	w.check(d.Pin(pins))
	w.findRecords()
	w.undo = append(w.undo, func() error { return unix.Munmap(w.records) })

	w.packet4[0], w.packet4[9] = 0x45, unix.IPPROTO_UDP
	w.outside, w.kernel = time.Now(), clockNow(b, unix.CLOCK_MONOTONIC)
	return w
}

// pins is where the detector shows its maps.
const pins = "/sys/fs/bpf/hub"

// findRecords maps the records into memory, if they are not those that are: the
// detector has new ones whenever its tables grow.
func (w *world) findRecords() {
	records, err := ebpf.LoadPinnedMap(filepath.Join(pins, "peers"), nil)
	w.check(err)
	defer records.Close()
	info, err := records.Info()
	w.check(err)
	id, _ := info.ID()
	if id == w.mapID {
		return
	}
	if w.records != nil {
		w.check(unix.Munmap(w.records))
	}
	w.mapID, w.fields = id, fieldsOf(w.b, records)
	w.records, err = unix.Mmap(records.FD(), 0, int(records.MaxEntries())*int(w.fields[""]),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	w.check(err)
}

// fieldsOf are the offsets of the fields of a map's values, by their BTF.
func fieldsOf(b testing.TB, m *ebpf.Map) map[string]uintptr {
	b.Helper()
	info, err := m.Info()
	if err != nil {
		b.Fatal(err)
	}
	id, _ := info.BTFID()
	handle, err := btf.NewHandleFromID(id)
	if err != nil {
		b.Fatal(err)
	}
	defer handle.Close()
	spec, err := handle.Spec(nil)
	if err != nil {
		b.Fatal(err)
	}
	var record *btf.Struct
	if err := spec.TypeByName("peer", &record); err != nil {
		b.Fatal(err)
	}
	fields := map[string]uintptr{"": uintptr(record.Size)}
	for _, member := range record.Members {
		fields[member.Name] = uintptr(member.Offset.Bytes())
	}
	return fields
}

// enter begins simulated time, in the bubble.
func (w *world) enter(t *testing.T) {
	w.inside = time.Now()
	w.events = make(chan detect.Event, 1)
	t.Cleanup(func() { w.events = nil })
}

func (w *world) close() {
	for len(w.undo) > 0 {
		last := len(w.undo) - 1
		w.check(w.undo[last]())
		w.undo = w.undo[:last]
	}
}

func (w *world) check(err error) {
	if err != nil {
		w.b.Helper()
		w.b.Fatal(err)
	}
}

// passed is simulated time since the beginning.
func (w *world) passed() time.Duration { return time.Since(w.inside) }

// Add is for the manager, as are the methods below.
func (w *world) Add(prefixes []netip.Prefix) (detect.ID, error) {
	id, err := w.Detector.Add(prefixes)
	if err == nil {
		w.slots[numberOf(prefixes[0].Addr())] = id.Slot()
	}
	return id, err
}

func (w *world) Events() <-chan detect.Event { return w.events }

func (w *world) Activity(id detect.ID) (detect.Activity, error) {
	a, err := w.Detector.Activity(id)
	for _, at := range []*time.Time{&a.LastTx, &a.LastRx} {
		if !at.IsZero() {
			*at = w.inside.Add(at.Sub(w.outside))
		}
	}
	return a, err
}

// transport is the connector of a world.
type transport struct{ *world }

// Open takes between 20 ms and 1 s.
func (w transport) Open(ctx context.Context, key lazy.Key, _ lazy.Wake) error {
	w.wakes.Add(1)
	w.open[peerNumber(key)].Store(true)
	select {
	case <-time.After(20*time.Millisecond + time.Duration(key[3])*4*time.Millisecond):
		return nil
	case <-ctx.Done(): // removed
		return ctx.Err()
	}
}

func (w transport) Close(_ context.Context, key lazy.Key) error {
	w.sleeps.Add(1)
	peer := peerNumber(key)
	w.open[peer].Store(false)
	if w.silent(peer) < threshold {
		w.parkedActive.Add(1)
	}
	return nil
}

// tolerance is for what lies between two readings of the outer clocks.
const tolerance = time.Millisecond

// silent is for how long nobody has talked to the peer.
func (w *world) silent(peer int) time.Duration {
	return w.passed() - time.Duration(w.talked[peer].Load()) + tolerance
}

// overslept counts peers that should long be parked, and returns how many are not
// and should not.
func (w *world) overslept() (awake int) {
	for peer := range w.open {
		if !w.open[peer].Load() {
			continue
		}
		if w.silent(peer) > threshold+maxOpen {
			w.neverParked++
		} else {
			awake++
		}
	}
	return awake
}

// maxOpen is longer than an Open takes: from then on a peer is watched.
const maxOpen = 2 * time.Second

// packet has a packet go to the peer, or come from it.
func (w *world) packet(peer int, egress bool) {
	begin := w.sample()
	record := w.records[uintptr(w.slots[peer])*w.fields[""]:]
	gate := (*uint32)(unsafe.Pointer(&record[w.fields["gate"]]))
	address, field, hook := w.packet4[16:], "last_tx", w.hooks[0]
	if !egress {
		address, field, hook = w.packet4[12:], "last_rx", w.hooks[1]
	}
	clear(w.packet4[12:20])
	a := addressOf(peer).As4()
	copy(address, a[:])
	before := atomic.LoadUint32(gate)
	_, err := hook.Run(&ebpf.RunOptions{Data: w.packet4[:]})
	w.check(err)
	w.packets++
	if !w.present[peer] {
		return // nobody's packet
	}
	now := w.passed()
	binary.NativeEndian.PutUint64(record[w.fields[field]:], uint64(w.kernel+now))
	w.talked[peer].Store(int64(now))
	w.sampledSince(begin)
	if atomic.LoadUint32(gate) != before {
		event := <-w.Detector.Events()
		event.Time = time.Now()
		w.events <- event
		synctest.Wait()
	}
	if !w.open[peer].Load() {
		w.missed++
	}
}

// What packets cost is not the manager's. It is estimated by one of sampling
// packets, as the median: a sample is wrong where the thread was another at its end.
const sampling = 100

func (w *world) sample() time.Duration {
	if w.packets%sampling != 0 {
		return 0
	}
	return clockNow(w.b, unix.CLOCK_THREAD_CPUTIME_ID)
}

func (w *world) sampledSince(begin time.Duration) {
	if begin != 0 {
		w.samples = append(w.samples, clockNow(w.b, unix.CLOCK_THREAD_CPUTIME_ID)-begin)
	}
}

// cpu is what all packets have cost.
func (w *world) cpu() time.Duration {
	slices.Sort(w.samples)
	return w.samples[len(w.samples)/2] * time.Duration(w.packets)
}

// numberOf and peerNumber are which peer has the address, and the key.
func numberOf(a netip.Addr) int {
	base, address := crowd.Addr().As4(), a.As4()
	return int(binary.BigEndian.Uint32(address[:]) - binary.BigEndian.Uint32(base[:]))
}

func peerNumber(key lazy.Key) int { return int(binary.BigEndian.Uint32(key[:])) }

// subnetOf is another prefix for a peer.
func subnetOf(peer int) netip.Prefix {
	a := netip.MustParseAddr("fd64::").As16()
	binary.BigEndian.PutUint32(a[8:], uint32(peer))
	return netip.PrefixFrom(netip.AddrFrom16(a), 96)
}
