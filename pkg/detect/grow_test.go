// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cilium/ebpf"
)

// TestGrow adds peers one by one to tables that begin small, while packets go
// to and come from peers, those that are yet to be added among them. No packet
// is lost to the count: it has passed, or it was held and then sent or dropped, or
// it was nobody's.
func TestGrow(t *testing.T) {
	const (
		peers = 100_000
		quiet = 50 // the first ones, to which nobody talks
		held  = 50 // the next ones, whose packets are held
		woken = 50 // the next ones, armed, and then woken by what is sent
		pins  = "/sys/fs/bpf/grow"
	)
	address := func(n int) netip.AddrPort {
		if n%2 == 0 {
			return peer4(2 + n/2)
		}
		return peer6(2 + n/2)
	}
	w := newTunnel(t, Options{})
	if err := w.d.Pin(pins); err != nil {
		t.Fatal(err)
	}
	ids := make([]ID, 0, peers)
	for n := range quiet + held + woken {
		ids = append(ids, w.d.mustAdd(single(address(n))))
		w.d.mustArm(ids[n], n < quiet && n%2 == 0 || n >= quiet && n < quiet+held)
	}

	// Talk to one after the other, but not to the quiet ones; and those whose
	// packets are held do not answer.
	var packets atomic.Uint64
	var stop atomic.Bool
	var talkers sync.WaitGroup
	talk := func(first int, packet func(n int)) {
		talkers.Go(func() {
			for n := first; !stop.Load(); n = max(first, (n+1)%peers) {
				packet(n)
				packets.Add(1)
			}
		})
	}
	talk(quiet, func(n int) { w.send(address(n), "to the peer") })
	talk(quiet+held, func(n int) { w.dev.answer(address(n), "from the peer") })

	for n := len(ids); n < peers; n++ {
		ids = append(ids, w.d.mustAdd(single(address(n))))
	}
	stop.Store(true)
	talkers.Wait()

	var passed, waited uint64
	for _, id := range ids {
		a := w.d.mustActivity(id)
		passed += a.TxPackets + a.RxPackets
		waited += a.Held
	}
	unrouted := w.d.mustStats().Unrouted
	t.Logf("%d packets: %d passed, %d held, %d before their peer was there", packets.Load(), passed, waited, unrouted)
	if passed+waited+unrouted != packets.Load() {
		t.Errorf("%d of %d packets were not seen", packets.Load()-passed-waited-unrouted, packets.Load())
	}
	for n, id := range ids[quiet : quiet+held] {
		w.d.mustOpen(id)
		a := w.d.mustActivity(id)
		if a.Held == 0 || a.Held != a.Replayed+a.Dropped || a.TxPackets != a.Replayed {
			t.Errorf("peer %d: %+v", quiet+n, a)
		}
	}

	raised := make(map[ID]int)
	for _, event := range w.d.raised() {
		raised[event.ID]++
	}
	for n, id := range ids[:quiet+held+woken] {
		if n >= quiet && raised[id] == 0 || n < quiet && raised[id] > 0 {
			t.Errorf("peer %d has raised %d events", n, raised[id])
		}
	}
	for n, id := range ids[:quiet] {
		want := bpfGateGATE_ARMED
		if n%2 == 0 {
			want = bpfGateGATE_ARMED_HOLD
		}
		if got := w.d.gate(id); got != want {
			t.Errorf("peer %d was armed as %d and is %d", n, want, got)
		}
		w.send(address(n), "wakes")
	}
	if events := w.d.raised(); len(events) != quiet {
		t.Errorf("%d events of %d peers", len(events), quiet)
	}

	for _, name := range pinned {
		m, err := ebpf.LoadPinnedMap(filepath.Join(pins, name), nil)
		if err != nil {
			t.Fatal(err)
		}
		if name == bpfMapPeers && m.MaxEntries() < peers || name == bpfMapRoutes && m.MaxEntries() < peers/2 {
			t.Errorf("what is pinned as %s has room for %d", name, m.MaxEntries())
		}
		m.Close()
	}
}

// TestRecordAdd brings together what two sets of tables have seen: packets that
// ran through the old ones after the copy was made, and through the new ones
// since.
func TestRecordAdd(t *testing.T) {
	copied := bpfPeer{
		Gate: bpfGateGATE_ARMED_HOLD, Generation: 3, LastTx: 100, LastRx: 100,
		TxPackets: 10, TxBytes: 1000, RxPackets: 20, RxBytes: 2000, Held: 5, Released: 4,
	}
	final, record := copied, copied
	final.Gate = bpfGateGATE_WOKEN_HOLD // it has raised its event
	final.LastTx, final.LastRx = 110, 130
	final.TxPackets, final.TxBytes, final.RxPackets, final.RxBytes, final.Held = 11, 1100, 22, 2200, 8
	record.LastTx, record.LastRx = 120, 120
	record.TxPackets, record.TxBytes, record.RxPackets, record.RxBytes, record.Held = 14, 1400, 28, 2800, 6

	record.add(copied, final)
	want := bpfPeer{
		Gate: bpfGateGATE_WOKEN_HOLD, Generation: 3, LastTx: 120, LastRx: 130,
		TxPackets: 15, TxBytes: 1500, RxPackets: 30, RxBytes: 3000, Held: 9, Released: 4,
	}
	if record != want {
		t.Errorf("\ngot  %+v\nwant %+v", record, want)
	}
}

// TestCapacity is about how large the next tables are.
func TestCapacity(t *testing.T) {
	has := capacity{1024, 1024}
	for want, grown := range map[capacity]capacity{
		{}:           has,
		{1024, 1024}: has,
		{1025, 0}:    {2048, 1024},
		{0, 3000}:    {1024, 4096},
		{1, 1 << 20}: {1024, 1 << 20},
	} {
		if got := has.grown(want); got != grown || has.fits(want) != (grown == has) {
			t.Errorf("for %v: %v, want %v; fits: %t", want, got, grown, has.fits(want))
		}
	}
}

// TestConcurrency uses all methods at once, for the race detector, while
// packets come and tables grow.
func TestConcurrency(t *testing.T) {
	w := newTunnel(t, Options{})
	var taker, users sync.WaitGroup
	stop := make(chan struct{})
	taker.Go(func() {
		for {
			select {
			case <-w.d.Events():
			case <-stop:
				return
			}
		}
	})
	for user := range 8 {
		users.Go(func() {
			for round := range 200 {
				address := peer4(2 + user*1000 + round)
				id := w.d.mustAdd(single(address))
				w.d.mustArm(id, round%2 == 0)
				w.send(address, "wakes")
				w.d.mustOpen(id)
				if a := w.d.mustActivity(id); a.TxPackets != 1 || a.Held != a.Replayed {
					t.Errorf("of one packet: %+v", a)
				}
				w.d.mustStats()
				var err error
				switch round % 8 {
				case 0:
					err = w.d.SetPrefixes(id, nil)
				case 1:
					err = w.d.Discard(id)
				case 2:
					err = w.d.Remove(id)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	users.Wait()
	close(stop)
	taker.Wait()
}
