// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/lazybpf/lazybpf/bench/baseline"
	"github.com/lazybpf/lazybpf/internal/wg"
	"github.com/lazybpf/lazybpf/pkg/detect"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// footprint is what else than memory there can be for a dormant peer.
type footprint struct{ files, goroutines, timers, calls int64 }

func footprintNow(b testing.TB, device *standin) footprint {
	b.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		b.Fatal(err)
	}
	return footprint{int64(len(files)), int64(runtime.NumGoroutine()), timers(), device.changes.Load()}
}

// timers counts those that were made while all allocations were recorded and are
// still there.
func timers() (count int64) {
	runtime.GC()
	runtime.GC() // what is recorded is as of the collection before
	records := make([]runtime.MemProfileRecord, 1<<16)
	n, _ := runtime.MemProfile(records, false)
	for _, record := range records[:n] {
		frames := runtime.CallersFrames(record.Stack())
		for more := true; more; {
			var frame runtime.Frame
			if frame, more = frames.Next(); strings.HasSuffix(frame.Function, "time.newTimer") {
				count += record.InUseObjects()
			}
		}
	}
	return count
}

// BenchmarkFootprint counts files, goroutines, timers and calls to WireGuard for each
// dormant peer. The device is one that only counts what it is told.
func BenchmarkFootprint(b *testing.B) {
	peers := sized(10_000)
	s := newStandin(b, peers, 0)
	defer s.close(b)
	device, err := wg.Open(s.name)
	if err != nil {
		b.Fatal(err)
	}
	defer device.Close()
	for design, start := range map[string]func(b *testing.B) dormancy{
		"manager": func(b *testing.B) dormancy {
			d, err := detect.New(detect.Options{Interface: s.name})
			if err != nil {
				b.Fatal(err)
			}
			c := wg.NewConnector(device, nil)
			m, err := lazy.New(lazy.Options{Detector: d, Connector: c})
			if err != nil {
				b.Fatal(err)
			}
			return dormancy{func(peer int) error {
				c.Adopt(wg.Peer{Key: keyOf(peer)}, 0, false)
				_, err := m.AddPeer(peerOf(peer))
				return err
			}, func() {
				m.Close()
				d.Close()
			}}
		},
		"listeners": func(b *testing.B) dormancy {
			l := baseline.New(device)
			return dormancy{func(peer int) error { return l.Arm(keyOf(peer)) }, l.Close}
		},
	} {
		b.Run(design, func(b *testing.B) {
			rate := runtime.MemProfileRate
			runtime.MemProfileRate = 1
			defer func() { runtime.MemProfileRate = rate }()
			var before, after footprint
			for b.Loop() {
				design := start(b)
				before = footprintNow(b, s)
				for peer := range peers {
					if err := design.add(peer); err != nil {
						b.Fatal(err)
					}
				}
				after = footprintNow(b, s)
				design.stop()
			}
			for unit, n := range map[string]int64{
				"files/peer": after.files - before.files, "goroutines/peer": after.goroutines - before.goroutines,
				"timers/peer": after.timers - before.timers, "wireguard-calls/peer": after.calls - before.calls,
			} {
				b.ReportMetric(float64(n)/float64(peers), unit)
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}
