// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"testing"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

// parksAfter fails the test if the peer, connected and silent from now on, is
// not parked after exactly this long.
func (w *world) parksAfter(n byte, silence time.Duration) {
	w.Helper()
	closes := w.connector.count("close", key(n))
	if s := w.status(n); !s.IdleAt.Equal(time.Now().Add(silence)) {
		w.Errorf("peer %d says it will be idle in %s, want %s", n, time.Until(s.IdleAt), silence)
	}
	time.Sleep(silence - 1)
	w.is(n, Connected)
	w.closed(n, closes)
	time.Sleep(time.Nanosecond)
	w.is(n, Idle)
	w.closed(n, closes+1)
	if s := w.status(n); !s.IdleAt.IsZero() {
		w.Errorf("an idle peer says it will be idle at %s", s.IdleAt)
	}
}

func TestSilentPeerIsParked(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.add(1)
		w.connect(1)
		w.parksAfter(1, threshold)
	})
}

// The threshold counts from the last packet, whichever way it went.
func TestTrafficKeepsConnected(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.add(1)
		w.connect(1)
		for range 5 {
			for _, direction := range []detect.Direction{detect.Egress, detect.Ingress} {
				time.Sleep(threshold - 1)
				w.send(direction, 1)
			}
		}
		w.opened(1, 1)
		w.parksAfter(1, threshold)
	})
}

// keepsConnected fails the test if traffic in one direction alone does not.
func keepsConnected(t *testing.T, direction detect.Direction) {
	play(t, Options{}, func(w *world) {
		w.add(1)
		w.connect(1)
		for range 100 {
			time.Sleep(threshold / 3)
			w.send(direction, 1)
			w.is(1, Connected)
		}
		w.closed(1, 0)
		w.parksAfter(1, threshold)
	})
}

// Bug 4: only inbound traffic counted as activity: a one-way outbound stream
// was cut after the threshold.
func TestBug04OutboundAloneKeepsConnected(t *testing.T) { keepsConnected(t, detect.Egress) }

func TestInboundAloneKeepsConnected(t *testing.T) { keepsConnected(t, detect.Ingress) }

// Bug 3: a wake started by the remote never started the idle timer: the peer
// stayed up for ever.
func TestBug03RemoteWakeStartsIdleTimer(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.add(1)
		w.send(detect.Ingress, 1)
		w.is(1, Connected)
		w.parksAfter(1, threshold)
	})
}

func TestRequestStartsIdleTimer(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.add(1)
		time.Sleep(time.Hour)
		w.ok(w.ActivatePeer(key(1)))
		w.is(1, Connected)
		w.parksAfter(1, threshold)
	})
}

// Bug 5: the watcher was not re-armed after the second wake.
func TestBug05EveryParkArms(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.add(1)
		for i := range 5 {
			direction := []detect.Direction{detect.Egress, detect.Ingress}[i%2]
			w.send(direction, 1)
			w.is(1, Connected)
			w.opened(1, i+1)
			w.parksAfter(1, threshold)
			if g := w.detector.peer(address(1)).gate; g != gateArmed {
				w.Fatalf("gate after park %d is %b", i+1, g)
			}
		}
	})
}

func TestThresholdOfPeer(t *testing.T) {
	play(t, Options{}, func(w *world) {
		short, long := peerOf(1), peerOf(2)
		short.Threshold, long.Threshold = MinThreshold, time.Hour
		w.ok(w.AddActivePeers(short, long, peerOf(3)))
		w.parksAfter(1, MinThreshold)
		w.parksAfter(3, threshold-MinThreshold)
		w.parksAfter(2, time.Hour-threshold)
	})
}

// A change of the threshold counts from the last activity, not from now.
func TestThresholdChanges(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.addConnected(1)
		peer := peerOf(1)
		time.Sleep(3 * time.Second)

		peer.Threshold = time.Minute
		w.ok(w.UpdatePeer(peer))
		time.Sleep(threshold)
		w.is(1, Connected)

		peer.Threshold = 20 * time.Second
		w.ok(w.UpdatePeer(peer))
		w.parksAfter(1, 20*time.Second-3*time.Second-threshold)
	})
}

func TestThresholdThatHasPassedParksAtOnce(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.addConnected(1)
		peer := peerOf(1)
		time.Sleep(3 * time.Second)
		peer.Threshold = 2 * time.Second
		w.ok(w.UpdatePeer(peer))
		w.is(1, Idle)
	})
}

// Every peer has its own time, whatever the order in which they come and go.
func TestManyDeadlines(t *testing.T) {
	play(t, Options{}, func(w *world) {
		seconds := []int{40, 10, 30, 20, 50, 5, 45, 15, 35, 25}
		for i, s := range seconds {
			peer := peerOf(byte(i))
			peer.Threshold = time.Duration(s) * time.Second
			w.ok(w.AddActivePeers(peer))
		}
		w.ok(w.RemovePeer(key(3))) // 20 s
		start := time.Now()
		time.Sleep(25*time.Second - 1)
		w.send(detect.Egress, 0) // 40 s from now
		time.Sleep(time.Minute)
		want := map[byte]int{5: 5, 1: 10, 7: 15, 9: 25, 2: 30, 8: 35, 6: 45, 4: 50, 0: 65}
		for n, s := range want {
			w.closed(n, 1)
			at := w.connector.of("close", key(n))[0].at.Sub(start).Round(time.Millisecond)
			if at != time.Duration(s)*time.Second {
				w.Errorf("peer %d was parked after %s, want %d s", n, at, s)
			}
		}
	})
}
