// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

// earlyConnector is a ReadyConnector: its peers can be reached if ready says so.
type earlyConnector struct {
	*fakeConnector
	ready bool
}

func (c earlyConnector) Ready(Key, Wake) bool { return c.ready }

// What is held waits for Open, unless the connector says that it need not.
func TestReadyConnector(t *testing.T) {
	for _, ready := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := &world{TB: t, detector: newFakeDetector(), connector: newFakeConnector(t)}
			answers := newAnswers(w)
			w.connector.open = answers.open
			var err error
			w.Manager, err = New(Options{
				Detector: w.detector, Connector: earlyConnector{w.connector, ready}, Wake: WakeHold,
			})
			w.ok(err)
			defer w.Close()

			w.add(1)
			w.send(detect.Egress, 1)
			w.is(1, Connecting) // in either case until Open has returned
			time.Sleep(time.Second)
			if waits := w.detector.peer(address(1)).waiting == 1; waits == ready {
				t.Errorf("ready %t: a packet waits for Open: %t", ready, waits)
			}
			answers.give(w, nil)
			w.is(1, Connected)
			if a := w.status(1).Activity; a.Replayed != 1 || a.Dropped != 0 {
				t.Errorf("ready %t: %d replayed, %d dropped, want 1 and 0", ready, a.Replayed, a.Dropped)
			}
		})
	}
}
