// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

// TestEventsOfTwoPackets has packets meet before armed gates, on two CPUs. One
// of two raises the event, and the place that the other has taken in the ring
// buffer must not put its reader to sleep for ever.
func TestEventsOfTwoPackets(t *testing.T) {
	d := newRig(t, Options{})
	peer := d.mustAdd(single(peerPort4))
	var senders sync.WaitGroup
	for program, packet := range map[*ebpf.Program][]byte{
		d.tables.PeerEgress:  udp(hostPort4, peerPort4, "query"),
		d.tables.PeerIngress: udp(peerPort4, hostPort4, "answer"),
	} {
		senders.Go(func() {
			const packets = 20_000_000
			if _, err := program.Run(&ebpf.RunOptions{Data: packet, Repeat: packets}); err != nil {
				t.Error(err)
			}
		})
	}
	sent := make(chan struct{})
	go func() { senders.Wait(); close(sent) }()
	for done := false; !done; {
		time.Sleep(50 * time.Microsecond) // until the reader is asleep
		d.mustArm(peer, false)
		select {
		case <-sent:
			done = true
		case <-d.Events():
		}
	}
	d.raised() // which waits for one more
}
