// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// This file has a day of a hub with very many peers, in a few minutes.
//
// Real are the manager; the detector, its programs and maps, which see every
// packet; and the events, which come through the kernel's ring buffer. Simulated are
// time; the wire, packets being handed to the programs one by one; and WireGuard,
// in whose place is a connector that takes its time. See world_test.go.
//
// Few peers talk, and some much more than others. They do so in sessions of
// packets with pauses between them, of which some are longer than the threshold.
// All along peers leave, come back, and get other allowed IPs.
const (
	step      = 100 * time.Millisecond // all that happens in it happens at its end
	sessions  = 3.0                    // that begin, a second, of a million peers
	changes   = 100                    // of the set of peers, a second
	threshold = 5 * time.Minute
	maxPause  = 2 * threshold
)

// hub is a day's events to come, and what came of those before.
type hub struct {
	*world
	b       *testing.B
	manager *lazy.Manager
	random  *rand.Rand
	popular *rand.Zipf
	ahead   [][]next // by step, as a ring: longer than maxPause
	now     int      // steps since the start
	gone    []int    // peers that have left, the first one first
	changed int
}

// next is a peer's next packet, and how many of its session come after it.
type next struct{ peer, left uint32 }

// BenchmarkHub simulates it.
func BenchmarkHub(b *testing.B) {
	peers, day := sized(1_000_000), 24*time.Hour
	if testing.Short() {
		day = 20 * time.Minute
	}
	for b.Loop() {
		w := newWorld(b, peers)
		// synctest wants a test, and a benchmark is none.
		passed := testing.RunTests(
			func(string, string) (bool, error) { return true, nil },
			[]testing.InternalTest{{Name: b.Name(), F: func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { newHub(b, t, w).live(day) })
			}}},
		)
		if !passed {
			b.Error("the day ended early")
		}
		w.close()
	}
	b.ReportMetric(0, "ns/op")
}

func newHub(b *testing.B, t *testing.T, w *world) *hub {
	h := &hub{
		world: w, b: b,
		random: rand.New(rand.NewPCG(1, 2)),
		ahead:  make([][]next, 1<<13),
	}
	h.popular = rand.NewZipf(h.random, 1.1, 10, uint64(w.peers-1))
	w.enter(t)
	var err error
	h.manager, err = lazy.New(lazy.Options{
		Detector: w, Connector: transport{w}, InactivityThreshold: threshold, MaxOpens: 1024,
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// live lives a day and reports it.
func (h *hub) live(day time.Duration) {
	before := memoryNow()
	for peer := range h.peers {
		h.check(h.add(peer))
	}
	h.findRecords()
	begin, wall := cpuNow(), wallNow(h.b)
	awake := 0
	for h.now < int(day/step) {
		time.Sleep(step)
		synctest.Wait()
		h.now++
		h.traffic()
		if h.now%int(time.Second/step) == 0 {
			h.churn()
			h.findRecords()
		}
		if h.now%int(10*time.Minute/step) == 0 {
			awake += h.overslept()
		}
	}
	hours := day.Hours()
	cpu := cpuNow() - begin - h.cpu()
	m := memoryNow().since(before)
	report := func(value float64, unit string) { h.b.ReportMetric(value, unit) }
	report(float64(h.packets), "packets")
	report(float64(h.changed), "changes")
	report(float64(h.wakes.Load()), "wakes")
	report(float64(h.sleeps.Load()), "sleeps")
	report(float64(h.missed), "packets-unseen")
	report(float64(h.parkedActive.Load()), "parked-while-active")
	report(float64(h.neverParked), "never-parked")
	report(float64(awake)/(hours*6), "awake-mean")
	report(cpu.Seconds()/hours, "cpu-s/hour")
	report(float64(m.Heap+m.Stacks+m.Maps)/float64(h.peers), "B/peer")
	report((wallNow(h.b) - wall).Seconds(), "wall-s")
	h.check(h.manager.Close())
}

// traffic is what is sent in this step, and the sessions that begin in it.
func (h *hub) traffic() {
	now := &h.ahead[h.now%len(h.ahead)]
	for _, n := range *now {
		h.packet(int(n.peer), h.random.IntN(3) > 0)
		h.continued(n)
	}
	*now = (*now)[:0]
	rate := sessions * step.Seconds() * float64(h.peers) / 1e6
	for n := h.random.ExpFloat64(); n < max(rate, 0.001); n += h.random.ExpFloat64() {
		peer := int(h.popular.Uint64()*2_654_435_761) % h.peers // the popular ones are anywhere
		h.packet(peer, h.random.IntN(3) > 0)
		h.continued(next{uint32(peer), uint32(h.random.ExpFloat64() * 30)})
	}
}

// continued brings a session's next packet ahead, after a pause by Pareto's law:
// mostly short, seldom very long.
func (h *hub) continued(last next) {
	if last.left == 0 {
		return
	}
	pause := time.Duration(float64(time.Second) / (1 - h.random.Float64()))
	steps := int(min(pause, maxPause) / step)
	at := &h.ahead[(h.now+max(steps, 1))%len(h.ahead)]
	*at = append(*at, next{last.peer, last.left - 1})
}

// churn is what changes among the peers in a second.
func (h *hub) churn() {
	for range changes * h.peers / 1_000_000 / 4 {
		leaving := h.random.IntN(h.peers)
		if h.present[leaving] {
			h.check(h.manager.RemovePeer(keyOf(leaving)))
			h.present[leaving] = false
			h.open[leaving].Store(false)
			h.gone = append(h.gone, leaving)
			h.changed++
		}
		// Who leaves is back some time later.
		if len(h.gone) > h.peers/100 {
			h.check(h.add(h.gone[0]))
			h.gone = h.gone[1:]
			h.changed++
		}
		for range 2 {
			if peer := h.random.IntN(h.peers); h.present[peer] {
				config := peerOf(peer)
				if h.random.IntN(2) > 0 {
					config.AllowedIPs = append(config.AllowedIPs, subnetOf(peer))
				}
				h.check(h.manager.UpdatePeer(config))
				h.changed++
			}
		}
	}
}

func (h *hub) add(peer int) error {
	_, err := h.manager.AddPeer(peerOf(peer))
	h.present[peer] = true
	return err
}

// cpuNow is how long this process has run so far.
func cpuNow() time.Duration {
	var usage unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &usage) // it fails for others only
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// wallNow is the time outside.
func wallNow(b testing.TB) time.Duration { return clockNow(b, unix.CLOCK_MONOTONIC) }

func clockNow(b testing.TB, clock int32) time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(clock, &now); err != nil {
		b.Fatal(err)
	}
	return time.Duration(now.Nano())
}
