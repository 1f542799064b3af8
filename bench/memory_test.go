// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/lazybpf/lazybpf/pkg/detect"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// memory is what this process has, in bytes.
type memory struct {
	Heap, Stacks int64 // in use, once garbage is collected
	Maps         int64 // BPF maps, as the kernel accounts them
	Slab         int64 // of the whole kernel: its small objects, sockets among them
}

func memoryNow() memory {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC() // what finalizers have let go of
	runtime.ReadMemStats(&stats)
	return memory{
		Heap: int64(stats.HeapAlloc), Stacks: int64(stats.StackInuse),
		Maps: mapMemory(), Slab: 1024 * field("/proc/meminfo", "Slab:"),
	}
}

func (m memory) since(before memory) memory {
	return memory{m.Heap - before.Heap, m.Stacks - before.Stacks, m.Maps - before.Maps, m.Slab - before.Slab}
}

// field is the number behind a word at the beginning of a line of a file; 0 if there is none.
func field(path, word string) (value int64) {
	file, err := os.Open(path)
	if err != nil {
		return 0 // a descriptor that was closed meanwhile
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if rest, found := strings.CutPrefix(lines.Text(), word); found {
			_, _ = fmt.Sscan(rest, &value)
			return value
		}
	}
	return 0
}

// mapMemory is that of the BPF maps which this process has, each once.
func mapMemory() (total int64) {
	descriptors, _ := filepath.Glob("/proc/self/fdinfo/*")
	seen := make(map[int64]bool)
	for _, path := range descriptors {
		if id := field(path, "map_id:"); id != 0 && !seen[id] {
			seen[id] = true
			total += field(path, "memlock:")
		}
	}
	return total
}

// BenchmarkMemory is what a dormant peer takes: of the detector alone, of
// detector and manager, and of the usual design. The kernel's part is that of the
// BPF maps, or of its small objects; the process has heap and stacks.
func BenchmarkMemory(b *testing.B) {
	n := newNetwork(b)
	for _, peers := range []int{1000, 10_000, 100_000, 1_000_000} {
		measureMemory(b, "detector", peers, func(b *testing.B) dormancy {
			d, _, stop := open(b, n, detect.Options{}, lazy.Options{Connector: nothing{}})
			return dormancy{func(peer int) error {
				id, err := d.Add(peerOf(peer).AllowedIPs)
				return errors.Join(err, d.Arm(id, false))
			}, stop}
		})
	}
	for _, peers := range []int{1000, 10_000, 100_000, 1_000_000} {
		measureMemory(b, "manager", peers, func(b *testing.B) dormancy {
			_, m, stop := open(b, n, detect.Options{}, lazy.Options{Connector: nothing{}})
			return dormancy{func(peer int) error {
				_, err := m.AddPeer(peerOf(peer))
				return err
			}, stop}
		})
	}
	for _, peers := range []int{1000, 10_000} {
		measureMemory(b, "listeners", peers, func(b *testing.B) dormancy {
			l := newListeners(b)
			return dormancy{func(peer int) error { return l.Arm(keyOf(peer)) }, l.Close}
		})
	}
}

// dormancy puts peers to sleep by one design or another.
type dormancy struct {
	add  func(peer int) error
	stop func()
}

func measureMemory(b *testing.B, design string, peers int, start func(*testing.B) dormancy) {
	b.Run(fmt.Sprintf("%s/peers=%d", design, peers), func(b *testing.B) {
		peers := sized(peers)
		var m memory
		for b.Loop() {
			design := start(b)
			before := memoryNow()
			for peer := range peers {
				if err := design.add(peer); err != nil {
					b.Fatal(err)
				}
			}
			m = memoryNow().since(before)
			design.stop()
		}
		kernel := m.Maps
		if design == "listeners" {
			kernel = m.Slab
		}
		b.ReportMetric(float64(kernel)/float64(peers), "kernel-B/peer")
		b.ReportMetric(float64(m.Heap+m.Stacks)/float64(peers), "process-B/peer")
		b.ReportMetric(float64(kernel+m.Heap+m.Stacks)/float64(peers), "B/peer")
		b.ReportMetric(0, "ns/op")
	})
}
