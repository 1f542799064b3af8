// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

func TestWake(t *testing.T) {
	for reason, wake := range map[Reason]func(*world){
		ReasonEgress:  func(w *world) { w.send(detect.Egress, 1) },
		ReasonIngress: func(w *world) { w.send(detect.Ingress, 1) },
		ReasonRequest: func(w *world) { w.ok(w.ActivatePeer(key(1))) },
	} {
		t.Run(reason.String(), func(t *testing.T) {
			play(t, Options{}, func(w *world) {
				answers := newAnswers(w)
				w.connector.open = answers.open
				w.add(1, 2)
				w.is(1, Idle)
				if s := w.status(1); s.Wakes != 0 || s.LastWake.Reason != 0 {
					w.Errorf("before it woke: %d wakes, the last by %s", s.Wakes, s.LastWake.Reason)
				}
				time.Sleep(time.Minute)

				woken := time.Now()
				wake(w)
				w.is(1, Connecting)
				w.is(2, Idle)
				time.Sleep(3 * time.Second)
				answers.give(w, nil)
				w.is(1, Connected)

				s := w.status(1)
				if s.Wakes != 1 || s.LastWake.Reason != reason || !s.LastWake.Time.Equal(woken) {
					w.Errorf("%d wakes, the last by %s at %s, want 1 by %s at %s",
						s.Wakes, s.LastWake.Reason, s.LastWake.Time, reason, woken)
				}
				if s.LastWake.Took != 3*time.Second {
					w.Errorf("wake took %s, want 3 s", s.LastWake.Took)
				}
				told := w.connector.of("open", key(1))[0].wake
				if told.Reason != reason || !told.Time.Equal(woken) || told.Took != 0 {
					w.Errorf("the connector was told of %+v", told)
				}
			})
		})
	}
}

// The packet that woke a peer is described to whoever asks who did.
func TestWakeHasEvent(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.add(1)
		w.send(detect.Egress, 1)
		told := w.connector.of("open", key(1))[0].wake
		for _, wake := range []Wake{told, w.status(1).LastWake} {
			if e := wake.Event; e.UID != 1000 || e.Length != 84 || e.Direction != detect.Egress {
				w.Errorf("event of the wake is %+v", e)
			}
		}
	})
}

// A peer's mode, or else the manager's, says whether the first packet waits.
func TestFirstPacket(t *testing.T) {
	for _, tc := range []struct {
		name          string
		manager, peer WakeMode
		held          bool
	}{
		{"default", WakeDefault, WakeDefault, false},
		{"pass", WakePass, WakeDefault, false},
		{"hold", WakeHold, WakeDefault, true},
		{"peer passes", WakeHold, WakePass, false},
		{"peer holds", WakePass, WakeHold, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			play(t, Options{Wake: tc.manager}, func(w *world) {
				answers := newAnswers(w)
				w.connector.open = answers.open
				peer := peerOf(1)
				peer.Wake = tc.peer
				_, err := w.AddPeer(peer)
				w.ok(err)

				w.send(detect.Egress, 1)
				w.send(detect.Egress, 1)
				var held uint64
				if tc.held {
					held = 2
				}
				if a := w.status(1).Activity; a.Held != held || a.TxPackets != 2-held {
					w.Errorf("while connecting %d packets are held and %d sent", a.Held, a.TxPackets)
				}
				answers.give(w, nil)
				w.is(1, Connected)
				if a := w.status(1).Activity; a.Replayed != held || a.TxPackets != 2 {
					w.Errorf("once connected %d packets are replayed and %d sent in all", a.Replayed, a.TxPackets)
				}
				w.send(detect.Egress, 1)
				if a := w.status(1).Activity; a.Held != held {
					w.Errorf("a packet of a connected peer was held")
				}
			})
		})
	}
}

// An event that the last dormancy left in the queue says nothing of this one.
func TestOldEventIsIgnored(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.addConnected(1)
		id, _ := w.detector.find(address(1))
		old := detect.Event{ID: id, Time: time.Now()}
		time.Sleep(time.Second)
		w.ok(w.DeactivatePeer(key(1)))
		w.is(1, Idle)

		w.detector.events <- old
		w.is(1, Idle)
		w.opened(1, 0)

		w.detector.events <- detect.Event{ID: id, Time: time.Now()}
		w.is(1, Connected)
	})
}

func TestEventOfUnknownPeerIsIgnored(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.add(1)
		w.detector.events <- detect.Event{ID: 1 << 40, Time: time.Now()}
		w.is(1, Idle)
		w.opened(1, 0)
	})
}

// Bug 17: concurrent wakes of one peer opened it twice.
func TestBug17ConcurrentWakesOpenOnce(t *testing.T) {
	play(t, Options{}, func(w *world) {
		answers := newAnswers(w)
		w.connector.open = answers.open
		w.add(1)
		id, _ := w.detector.find(address(1))
		for range 50 {
			go func() { w.detector.events <- detect.Event{ID: id, Time: time.Now()} }()
			go func() {
				if err := w.ActivatePeer(key(1)); err != nil {
					w.Error(err)
				}
			}()
		}
		w.opened(1, 1)
		answers.give(w, nil)
		w.is(1, Connected)

		w.ok(w.ActivatePeer(key(1)))
		w.detector.events <- detect.Event{ID: id, Time: time.Now()}
		w.opened(1, 1)
		if s := w.status(1); s.Wakes != 1 {
			w.Errorf("the peer has woken %d times, want once", s.Wakes)
		}
	})
}

// Without its detector a manager still opens peers by request.
func TestDetectorCloses(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.add(1)
		close(w.detector.events)
		synctest.Wait()
		w.ok(w.ActivatePeer(key(1)))
		w.is(1, Connected)
		time.Sleep(threshold)
		w.is(1, Idle)
	})
}
