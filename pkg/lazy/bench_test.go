// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

const benchPeers = 10_000

// manyPeers are configurations of as many peers as the benchmarks use.
func manyPeers() []Peer {
	peers := make([]Peer, benchPeers)
	for i := range peers {
		high, low := byte(i>>8), byte(i)
		prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, high, low}), 32)
		peers[i] = Peer{Key: Key{high, low}, AllowedIPs: []netip.Prefix{prefix}}
	}
	return peers
}

// nullConnector does nothing.
type nullConnector struct{}

func (nullConnector) Open(context.Context, Key, Wake) error { return nil }
func (nullConnector) Close(context.Context, Key) error      { return nil }

// nullDetector counts its peers, and tells when it opens a gate.
type nullDetector struct {
	peers  detect.ID // how many there are: the last one's ID
	events chan detect.Event
	opened chan detect.ID
}

func (d *nullDetector) Add([]netip.Prefix) (detect.ID, error) { d.peers++; return d.peers, nil }

func (d *nullDetector) SetPrefixes(detect.ID, []netip.Prefix) error       { return nil }
func (d *nullDetector) SetRules(detect.ID, []detect.Rule) error           { return nil }
func (d *nullDetector) Remove(detect.ID) error                            { return nil }
func (d *nullDetector) Arm(detect.ID, bool) error                         { return nil }
func (d *nullDetector) Open(id detect.ID) error                           { d.opened <- id; return nil }
func (d *nullDetector) Discard(detect.ID) error                           { return nil }
func (d *nullDetector) Activity(detect.ID) (a detect.Activity, err error) { return a, nil }
func (d *nullDetector) Events() <-chan detect.Event                       { return d.events }

func benchManager(b *testing.B) (*Manager, *nullDetector) {
	b.Helper()
	d := &nullDetector{events: make(chan detect.Event, 1024), opened: make(chan detect.ID, 1)}
	m, err := New(Options{Detector: d, Connector: nullConnector{}})
	if err != nil {
		b.Fatal(err)
	}
	return m, d
}

// addMany adds dormant peers.
func addMany(b *testing.B, m *Manager, peers []Peer) {
	b.Helper()
	for _, peer := range peers {
		if _, err := m.AddPeer(peer); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAddPeer is what a dormant peer costs without the detector's part:
// the time to add it, and the memory it takes as long as it stays.
func BenchmarkAddPeer(b *testing.B) {
	peers := manyPeers()
	var before, after runtime.MemStats
	for b.Loop() {
		b.StopTimer()
		m, _ := benchManager(b)
		runtime.GC()
		runtime.ReadMemStats(&before)
		b.StartTimer()
		addMany(b, m, peers)
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&after)
		if err := m.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchPeers, "ns/peer")
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/benchPeers, "heap-B/peer")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkWake is the way from a packet's event, one peer of many, through
// the manager and a connector that does nothing, to the opened gate.
func BenchmarkWake(b *testing.B) {
	peers := manyPeers()
	m, d := benchManager(b)
	defer m.Close()
	addMany(b, m, peers)
	next := 0
	for b.Loop() {
		if next == benchPeers {
			b.StopTimer()
			for _, peer := range peers {
				sleepAgain(b, m, peer.Key)
			}
			next = 0
			b.StartTimer()
		}
		next++
		id := detect.ID(next)
		d.events <- detect.Event{ID: id, Time: time.Now()}
		if got := <-d.opened; got != id {
			b.Fatalf("peer %s was opened instead of %s", got, id)
		}
	}
}

// sleepAgain puts a peer to sleep that has just been opened.
func sleepAgain(b *testing.B, m *Manager, key Key) {
	b.Helper()
	for {
		// Its gate is open before the manager knows that it is connected.
		if err := m.DeactivatePeer(key); err != nil && !errors.Is(err, ErrStaysAwake) {
			b.Fatal(err)
		}
		if status, err := m.Peer(key); err != nil || status.State == Idle {
			return
		}
	}
}

// BenchmarkSlowReader is what a change costs the manager while a reader of the
// changes of many peers is far behind, and reads on.
func BenchmarkSlowReader(b *testing.B) {
	s := &Subscription{ready: make(chan struct{}, 1)}
	peers := manyPeers()
	for _, peer := range peers {
		s.add(Change{Key: peer.Key, To: Idle})
	}
	next := 0
	for b.Loop() {
		s.add(Change{Key: peers[next].Key, From: Idle, To: Connecting})
		if _, err := s.Next(b.Context()); err != nil {
			b.Fatal(err)
		}
		next = (next + 1) % len(peers)
	}
}

// BenchmarkManyWakes wakes all peers at once, as a scan does: each has to wait
// for its turn.
func BenchmarkManyWakes(b *testing.B) {
	peers := manyPeers()
	m, d := benchManager(b)
	defer m.Close()
	addMany(b, m, peers)
	for b.Loop() {
		go func() {
			for id := range detect.ID(benchPeers) {
				d.events <- detect.Event{ID: id + 1, Time: time.Now()}
			}
		}()
		for range peers {
			<-d.opened
		}
		b.StopTimer()
		for _, peer := range peers {
			sleepAgain(b, m, peer.Key)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchPeers, "ns/wake")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkGroupDeadline is a look at a connected peer in a group of ten, to
// which each of the others is looked at.
func BenchmarkGroupDeadline(b *testing.B) {
	m, _ := benchManager(b)
	defer m.Close()
	members := manyPeers()[:10]
	for i := range members {
		members[i].Groups = []string{"routers"}
	}
	if err := m.AddActivePeers(members...); err != nil {
		b.Fatal(err)
	}
	err := m.do(func() error {
		p := m.peers[members[0].Key]
		for b.Loop() {
			m.expire(p, time.Now())
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	if s, err := m.Peer(members[0].Key); err != nil || s.State != Connected {
		b.Fatalf("the peer is %s, error %v", s.State, err)
	}
}
