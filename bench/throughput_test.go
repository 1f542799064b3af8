// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/pkg/detect"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// BenchmarkThroughput is that of one TCP connection through the tunnel, with the
// programs on the hooks and without, by turns on the same connection.
func BenchmarkThroughput(b *testing.B) {
	const span = 250 * time.Millisecond
	rounds := 40
	if testing.Short() {
		rounds = 1
	}
	n := labtest.Network(b, lab.Options{})
	meter := newStream(b, n)
	var with, without, ratios []float64
	for b.Loop() {
		for range rounds {
			off := meter.rate(b, span)
			_, m, stop := open(b, n, detect.Options{}, lazy.Options{Connector: nothing{}})
			there := netip.PrefixFrom(n.There.IPv4, 32)
			err := m.AddActivePeers(lazy.Peer{Key: lazy.Key(n.There.PublicKey), AllowedIPs: []netip.Prefix{there}})
			if err != nil {
				b.Fatal(err)
			}
			on := meter.rate(b, span)
			if s, err := m.Peer(lazy.Key(n.There.PublicKey)); err != nil || s.Activity.TxPackets == 0 {
				b.Fatalf("the programs have not seen the peer: %+v, %v", s.Activity, err)
			}
			stop()
			after := meter.rate(b, span)
			with, without = append(with, on), append(without, (off+after)/2)
			ratios = append(ratios, 2*on/(off+after))
		}
	}
	for _, list := range [][]float64{with, without, ratios} {
		slices.Sort(list)
	}
	b.ReportMetric(with[len(with)/2]/1e6, "on-MB/s")
	b.ReportMetric(without[len(without)/2]/1e6, "off-MB/s")
	b.ReportMetric(ratios[len(ratios)/2], "on/off")
	b.ReportMetric(0, "ns/op")
}

// stream is a connection from Here to There that takes all that is written.
type stream struct{ conn *net.TCPConn }

func newStream(b testing.TB, n *lab.Network) *stream {
	b.Helper()
	listener, err := n.There.ListenTCP(netip.AddrPortFrom(n.There.IPv4, 0))
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		sink, err := listener.AcceptTCP()
		if err == nil {
			_, _ = io.Copy(io.Discard, sink)
			sink.Close()
		}
	}()
	conn, err := n.Here.DialTCP(b.Context(), listener.Addr().(*net.TCPAddr).AddrPort())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		conn.Close()
		listener.Close()
		<-done
	})
	return &stream{conn}
}

// rate is how many bytes a second go through the connection.
func (s *stream) rate(b testing.TB, span time.Duration) float64 {
	b.Helper()
	buffer := make([]byte, 1<<16)
	total, begin := 0, time.Now()
	for time.Since(begin) < span {
		n, err := s.conn.Write(buffer)
		if err != nil {
			b.Fatal(err)
		}
		total += n
	}
	return float64(total) / time.Since(begin).Seconds()
}
