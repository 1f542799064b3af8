// SPDX-License-Identifier: Apache-2.0

// Package bench measures lazybpf as a whole, and the usual design beside it.
// What one package alone can measure is in that package. `make bench` runs all of
// it and writes docs/benchmarks.md; -short takes small numbers of peers, to see
// that it works.
package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/pkg/detect"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

func TestMain(m *testing.M) {
	if order, ok := os.LookupEnv(childVar); ok {
		os.Exit(runChild(order))
	}
	labtest.Main(m)
}

// patience is how long a benchmark waits for what should happen at once.
const patience = time.Minute

// await waits until the condition holds.
func await(b testing.TB, what string, holds func() bool) {
	b.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

// sized is the number of peers, or a hundredth of it with -short.
func sized(peers int) int {
	if testing.Short() {
		return max(1, peers/100)
	}
	return peers
}

// crowd is the network of all the peers that benchmarks make up: room for 2^22.
var crowd = netip.MustParsePrefix("10.64.0.0/10")

// addressOf and keyOf are those of the n-th peer that is made up.
func addressOf(n int) netip.Addr {
	base := crowd.Addr().As4()
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(base[:])+uint32(n))))
}

func prefixOf(n int) netip.Prefix { return netip.PrefixFrom(addressOf(n), 32) }

func keyOf(n int) (key lazy.Key) {
	binary.BigEndian.PutUint32(key[:], uint32(n))
	key[31] = 0x40 // all public keys are below 2^255
	return key
}

func peerOf(n int) lazy.Peer {
	return lazy.Peer{Key: keyOf(n), AllowedIPs: []netip.Prefix{prefixOf(n)}}
}

// newNetwork is a tunnel into which all made-up addresses are routed.
func newNetwork(b testing.TB) *lab.Network {
	b.Helper()
	return labtest.Network(b, lab.Options{ExtraAllowedIPs: []netip.Prefix{crowd}})
}

// open makes a detector on Here's interface, and a manager of its peers. What it
// returns takes them apart. Only connector has no default.
func open(b testing.TB, n *lab.Network, options detect.Options, managing lazy.Options) (*detect.Detector, *lazy.Manager, func()) {
	b.Helper()
	options.Interface = n.Here.Name
	d, err := detect.New(options)
	if err != nil {
		b.Fatal(err)
	}
	managing.Detector = d
	m, err := lazy.New(managing)
	if err != nil {
		b.Fatal(errors.Join(err, d.Close()))
	}
	return d, m, func() {
		if err := errors.Join(m.Close(), d.Close()); err != nil {
			b.Error(err)
		}
	}
}

// addPeers adds made-up peers to a manager: those from first on, before last.
func addPeers(b testing.TB, m *lazy.Manager, first, last int) {
	b.Helper()
	for n := first; n < last; n++ {
		if _, err := m.AddPeer(peerOf(n)); err != nil {
			b.Fatal(err)
		}
	}
}

// quantiles are those that a distribution is reported by.
var quantiles = []float64{1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9}

// reportQuantiles reports a distribution, as metrics named p50-µs and so on.
func reportQuantiles(b *testing.B, prefix string, took []time.Duration) {
	b.Helper()
	slices.Sort(took)
	for _, q := range quantiles {
		at := took[min(len(took)-1, int(q/100*float64(len(took))))]
		b.ReportMetric(float64(at.Nanoseconds())/1000, fmt.Sprintf("%sp%v-µs", prefix, q))
	}
}

// nothing is a connector that does nothing.
type nothing struct{}

func (nothing) Open(context.Context, lazy.Key, lazy.Wake) error { return nil }
func (nothing) Close(context.Context, lazy.Key) error           { return nil }
