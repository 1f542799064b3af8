// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// TestCycles puts a peer to sleep again and again, with a datagram on its way to it at about the same time: before it is
// decided, between that and the arming, or while the connector closes the peer. All of them must come back, once.
func TestCycles(t *testing.T) {
	const (
		cycles = 1000
		spread = 500 * time.Microsecond // of sending and parking: about what parking takes
	)
	for modeName, mode := range wakeModes {
		t.Run(modeName, func(t *testing.T) {
			n := labtest.Network(t, lab.Options{Keepalive: keepalive})
			e := serveEcho(t, n)
			a := assemble(t, n, choice{wake: mode})
			s := newStream(t, n, e.IPv4)
			seed := rand.Uint64()
			t.Log("seed", seed)
			random := rand.New(rand.NewPCG(seed, 0))

			reasons := make(map[string]int) // why it woke
			for number := range uint32(cycles) {
				a.wake()
				before := a.figures()
				sendAfter := time.Duration(random.Int64N(int64(spread)))
				parkAfter := time.Duration(random.Int64N(int64(spread)))
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					time.Sleep(sendAfter)
					s.send(number)
				}()
				time.Sleep(parkAfter)
				if err := a.manager.DeactivatePeer(a.key); err != nil && !errors.Is(err, lazy.ErrStaysAwake) {
					t.Fatal(err)
				}
				<-sent
				s.await(number)
				switch after := a.figures(); {
				case after.state == lazy.Idle.String():
					reasons["request"]++ // in the next cycle
				case after.wakes > before.wakes || after.state == lazy.Connecting.String():
					reasons[after.reason]++
				}
			}
			s.finish(cycles)
			if f := a.figures(); f.dropped != 0 || f.held != f.replayed {
				t.Errorf("%+v", f)
			}
			t.Log("woke by", reasons)
			// Otherwise the test has missed the moment that it is about: all datagrams came before the peer slept, or all after.
			if reasons["egress"] == 0 || reasons["ingress"]+reasons["request"] == 0 {
				t.Error("the datagrams did not come at about the same time")
			}
		})
	}
}
