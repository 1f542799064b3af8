// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"runtime"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

// TestEventsGivenUp opens gates at the moment at which a packet is about to
// raise an event: the packet has taken a place in the ring buffer and gives it
// up. That must not put the reader of the ring buffer to sleep for ever.
func TestEventsGivenUp(t *testing.T) {
	d := newRig(t, Options{})
	peer := d.mustAdd(single(peerPort4))
	packets := uint32(10_000_000)
	if runtime.NumCPU() == 1 {
		packets /= 20 // nothing happens at the same moment there
	}
	sent := make(chan error)
	go func() {
		_, err := d.tables.PeerEgress.Run(&ebpf.RunOptions{Data: udp(hostPort4, peerPort4, "query"), Repeat: packets})
		sent <- err
	}()
	raised := 0
	d.mu.Lock()
	record := d.tables.record(peer.Slot())
	for done := false; !done; {
		storeGate(record, bpfGateGATE_ARMED)
		storeGate(record, bpfGateGATE_OPEN)
		select {
		case err := <-sent:
			if err != nil {
				t.Fatal(err)
			}
			done = true
		case <-d.Events():
			raised++
			time.Sleep(50 * time.Microsecond) // until the reader is asleep
		default:
		}
	}
	d.mu.Unlock()
	t.Logf("%d packets were faster", raised)
	d.raised() // which waits for one more
}
