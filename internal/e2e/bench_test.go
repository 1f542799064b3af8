// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/lazybpf/lazybpf/bench/baseline"
	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/internal/wg"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// contender is a network on which first round trips are measured.
type contender struct {
	network *lab.Network
	daemon  *running // nil: WireGuard without lazybpf
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
func (c *contender) ping(b *testing.B) time.Duration {
	var before figures
	if c.daemon != nil {
		before = c.daemon.figures()
	}
	rtt, err := c.network.Here.Ping(soon(b), c.network.There.IPv4)
	if err != nil {
		b.Fatal(err)
	}
	if c.daemon != nil {
		awaitWake(b, c.daemon, before, c.daemon.options.Wake)
	}
	return rtt
}

func median(took []time.Duration) float64 {
	slices.Sort(took)
	return took[len(took)/2].Seconds() * 1000
}

// usual measures the first ping to a peer that is dormant in the usual way: a fake
// endpoint, then the real one. The handshake initiation that went to the fake one is
// sent on, if it is to be reinjected; else WireGuard makes another one.
func usual(b *testing.B, n *lab.Network, device *wg.Device, reinject bool) time.Duration {
	b.Helper()
	if err := n.ForgetSessions(); err != nil {
		b.Fatal(err)
	}
	time.Sleep(60 * time.Millisecond) // more than ForgetSessions asks for
	l := baseline.New(device)
	defer l.Close()
	there := lazy.Key(n.There.PublicKey)
	if err := l.Arm(there); err != nil {
		b.Fatal(err)
	}
	opened := make(chan error, 1)
	go func() {
		knock := <-l.Knocks()
		err := l.Open(there, n.There.Endpoint)
		if err == nil && reinject {
			err = baseline.Reinject(knock, n.Here.Endpoint.Port(), n.There.Endpoint)
		}
		opened <- err
	}()
	rtt, err := n.Here.Ping(soon(b), n.There.IPv4)
	if err := errors.Join(err, <-opened); err != nil {
		b.Fatal(err)
	}
	return rtt
}

// BenchmarkFirstRoundTrip measures the first ping to a peer without a session: of plain WireGuard, and of a sleeping peer that
// lazybpf wakes. An iteration is one ping of each, so that what the machine does meanwhile meets all of them. One of a few has
// a ping to a peer that is dormant in the usual way, too: that takes 5 s.
func BenchmarkFirstRoundTrip(b *testing.B) {
	const usualEach = 20
	contenders := map[string]*contender{"plain": {network: labtest.Network(b, lab.Options{})}}
	for name, mode := range wakeModes {
		n := labtest.Network(b, lab.Options{Keepalive: keepalive})
		options := onHere(b, n)
		options.Wake = mode
		options.Log.SetLevel(logrus.WarnLevel) // `go test -bench` shows all there is
		contenders[name] = &contender{network: n, daemon: run(b, n, options)}
	}
	n := labtest.Network(b, lab.Options{})
	device, err := wg.Open(n.Here.Name)
	if err != nil {
		b.Fatal(err)
	}
	defer device.Close()
	took := make(map[string][]time.Duration)
	for i := 0; b.Loop(); i++ {
		for _, c := range contenders {
			c.forget(b)
		}
		time.Sleep(60 * time.Millisecond) // more than ForgetSessions asks for
		for name, c := range contenders {
			took[name] = append(took[name], c.ping(b))
		}
		took["reinjected"] = append(took["reinjected"], usual(b, n, device, true))
		if i%usualEach == 0 {
			took["fake"] = append(took["fake"], usual(b, n, device, false))
		}
	}
	for name := range took {
		b.ReportMetric(median(took[name]), name+"-ms")
		b.ReportMetric(median(took[name])/median(took["plain"]), name+"/plain")
		for _, percent := range []int{10, 25, 75, 90, 95} {
			at := took[name][len(took[name])*percent/100]
			b.ReportMetric(at.Seconds()*1000, fmt.Sprintf("%s-p%d-ms", name, percent))
		}
	}
	b.ReportMetric(0, "ns/op") // most of it is waiting
}
