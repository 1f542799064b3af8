// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"slices"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// contender is a network on which first round trips are measured.
type contender struct {
	network *lab.Network
	daemon  *running // nil: WireGuard without lazybpf
	took    []time.Duration
}

// forget makes the next packet the first.
func (c *contender) forget(b *testing.B) {
	if c.daemon != nil {
		if c.daemon.there().State == lazy.Connected.String() {
			c.daemon.park()
		}
		awaitKeepalive(b, c.network, 0)
	}
	if err := c.network.ForgetSessions(); err != nil {
		b.Fatal(err)
	}
}

// ping measures the first round trip. lazybpf must have noticed.
func (c *contender) ping(b *testing.B) {
	var before figures
	if c.daemon != nil {
		before = c.daemon.figures()
	}
	rtt, err := c.network.Here.Ping(soon(b), c.network.There.IPv4)
	if err != nil {
		b.Fatal(err)
	}
	c.took = append(c.took, rtt)
	if c.daemon != nil {
		awaitWake(b, c.daemon, before, c.daemon.options.Wake)
	}
}

func (c *contender) median() float64 {
	slices.Sort(c.took)
	return c.took[len(c.took)/2].Seconds() * 1000
}

// BenchmarkFirstRoundTrip measures the first ping to a peer without a session: of plain WireGuard, and of a sleeping peer that
// lazybpf wakes. An iteration is one ping of each, so that what the machine does meanwhile meets all of them.
func BenchmarkFirstRoundTrip(b *testing.B) {
	contenders := map[string]*contender{"plain": {network: labtest.Network(b, lab.Options{})}}
	for name, mode := range wakeModes {
		n := labtest.Network(b, lab.Options{Keepalive: keepalive})
		options := onHere(b, n)
		options.Wake = mode
		options.Log.SetLevel(logrus.WarnLevel) // `go test -bench` shows all there is
		contenders[name] = &contender{network: n, daemon: run(b, n, options)}
	}
	for b.Loop() {
		for _, c := range contenders {
			c.forget(b)
		}
		time.Sleep(60 * time.Millisecond) // more than ForgetSessions asks for
		for _, c := range contenders {
			c.ping(b)
		}
	}
	plain := contenders["plain"].median()
	for name, c := range contenders {
		b.ReportMetric(c.median(), name+"-ms")
		if c.daemon != nil {
			b.ReportMetric(c.median()/plain, name+"/plain")
		}
	}
	b.ReportMetric(0, "ns/op") // most of it is waiting
}
