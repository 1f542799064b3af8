// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"testing"

	"github.com/lazybpf/lazybpf/pkg/detect"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// BenchmarkArm is what it takes to make peers dormant, that many at once. The usual
// design is without its call to WireGuard: a socket and a goroutine for each peer.
func BenchmarkArm(b *testing.B) {
	n := newNetwork(b)
	for _, peers := range []int{1000, 10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("detector/peers=%d", peers), func(b *testing.B) {
			peers := sized(peers)
			d, _, stop := open(b, n, detect.Options{Peers: peers}, lazy.Options{Connector: nothing{}})
			defer stop()
			ids := make([]detect.ID, peers)
			for peer := range ids {
				var err error
				if ids[peer], err = d.Add(peerOf(peer).AllowedIPs); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				for _, id := range ids {
					if err := d.Arm(id, false); err != nil {
						b.Fatal(err)
					}
				}
			}
			perPeer(b, peers)
		})
	}
	for _, peers := range []int{1000, 10_000} {
		b.Run(fmt.Sprintf("listeners/peers=%d", peers), func(b *testing.B) {
			peers := sized(peers)
			for b.Loop() {
				l := newListeners(b)
				for peer := range peers {
					if err := l.Arm(keyOf(peer)); err != nil {
						b.Fatal(err)
					}
				}
				b.StopTimer()
				l.Close()
				b.StartTimer()
			}
			perPeer(b, peers)
		})
	}
}

// perPeer reports the time of an iteration as that of each of so many peers.
func perPeer(b *testing.B, peers int) {
	b.Helper()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(peers), "ns/peer")
	b.ReportMetric(0, "ns/op")
}

// mostPeers is how many peers a WireGuard device of the kernel can have.
const mostPeers = 1 << 20

// BenchmarkMost has as many dormant peers on one interface as there can be, and
// wakes the last of them by a packet.
func BenchmarkMost(b *testing.B) {
	n := newNetwork(b)
	b.Run("manager", func(b *testing.B) {
		peers := sized(mostPeers)
		for b.Loop() {
			woken := make(recorder, 1)
			_, m, stop := open(b, n, detect.Options{}, lazy.Options{Connector: woken})
			addPeers(b, m, 0, peers)
			talk(b, n, peers-1)
			if key := woken.next(b); key != keyOf(peers-1) {
				b.Errorf("%s woke", key)
			}
			stop()
		}
		b.ReportMetric(float64(peers), "peers")
		perPeer(b, peers)
	})
	b.Run("listeners", func(b *testing.B) {
		var peers int
		for b.Loop() {
			l := newListeners(b)
			peers = untilFull(b, l)
			l.Close()
		}
		b.ReportMetric(float64(peers), "peers")
		b.ReportMetric(float64(ports(b)), "ports")
		perPeer(b, peers)
	})
}
