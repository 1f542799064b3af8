// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cilium/ebpf"
)

// TestGrow adds peers one by one to tables that begin small, while packets go
// to and come from peers, those that are yet to be added among them. Each
// packet counts once.
func TestGrow(t *testing.T) {
	const (
		peers = 20_000
		quiet = 50 // the first ones, to which nobody talks
		woken = 50 // the next ones, armed, and then woken by what is sent
		pins  = "/sys/fs/bpf/grow"
	)
	w := newTunnel(t, Options{})
	if err := w.d.Pin(pins); err != nil {
		t.Fatal(err)
	}
	ids := make([]ID, 0, peers)
	for n := range quiet + woken {
		ids = append(ids, w.d.mustAdd(single(peer4(2+n))))
		w.d.mustArm(ids[n], n%2 == 0 && n < quiet)
	}

	// Talk to one after the other, but not to the quiet ones.
	var packets atomic.Uint64
	var stop atomic.Bool
	var talkers sync.WaitGroup
	talk := func(packet func(n int)) {
		talkers.Go(func() {
			for n := quiet; !stop.Load(); n = max(quiet, (n+1)%peers) {
				packet(n)
				packets.Add(1)
			}
		})
	}
	talk(func(n int) { w.send(peer4(2+n), "to the peer") })
	talk(func(n int) { w.dev.answer(peer4(2+n), "from the peer") })

	for n := len(ids); n < peers; n++ {
		ids = append(ids, w.d.mustAdd(single(peer4(2+n))))
	}
	stop.Store(true)
	talkers.Wait()

	counted := w.d.mustStats().Unrouted
	for _, id := range ids {
		a := w.d.mustActivity(id)
		counted += a.TxPackets + a.RxPackets
	}
	if counted != packets.Load() {
		t.Errorf("counted %d packets of %d", counted, packets.Load())
	}
	t.Logf("%d packets, %d of them before their peer was there", counted, w.d.mustStats().Unrouted)

	raised := make(map[ID]int)
	for _, event := range w.d.raised() {
		raised[event.ID]++
	}
	for n, id := range ids[:quiet+woken] {
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
		w.send(peer4(2+n), "wakes")
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
