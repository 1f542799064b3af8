// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"context"
	"testing"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

// refuse is an Open that fails at once.
func refuse(context.Context, Key, Wake) error { return errRefused }

// backsOff fails the test unless the peer is idle after this many failed
// Opens, and left alone for as long as that asks for.
func (w *world) backsOff(n byte, failures int) Status {
	w.Helper()
	w.is(n, Idle)
	s := w.status(n)
	most := min(time.Second<<(failures-1), 5*time.Minute)
	if d := time.Until(s.RetryAt); d < most/2 || d > most {
		w.Errorf("after %d failures peer %d is left alone for %s, want %s to %s", failures, n, d, most/2, most)
	}
	if p := w.detector.peer(address(n)); p.gate != gateOpen || p.waiting != 0 {
		w.Errorf("while peer %d is left alone its gate is %b and %d packets wait", n, p.gate, p.waiting)
	}
	return s
}

// sleepBackOff waits until the peer is armed again.
func (w *world) sleepBackOff(n byte) {
	w.Helper()
	time.Sleep(time.Until(w.status(n).RetryAt))
	if s := w.status(n); !s.RetryAt.IsZero() {
		w.Errorf("peer %d has not been armed: it is left alone until %s", n, s.RetryAt)
	}
}

// A peer that cannot be opened is left alone for a while. Packets pass then,
// so that WireGuard answers for it, and wake nobody.
func TestOpenFails(t *testing.T) {
	play(t, Options{Wake: WakeHold}, func(w *world) {
		w.connector.open = refuse
		w.add(1)
		w.send(detect.Egress, 1)
		s := w.backsOff(1, 1)
		w.fails(s.LastError, errRefused)
		if s.Activity.Held != 1 || s.Activity.Dropped != 1 || s.Wakes != 0 {
			w.Errorf("%d held, %d dropped, %d wakes, want 1, 1, 0", s.Activity.Held, s.Activity.Dropped, s.Wakes)
		}

		w.send(detect.Egress, 1)
		w.send(detect.Ingress, 1)
		if s := w.status(1); s.State != Idle || s.Activity.TxPackets != 1 {
			w.Errorf("%s, %d packets sent, want idle, 1", s.State, s.Activity.TxPackets)
		}
		w.opened(1, 1)

		w.sleepBackOff(1)
		w.opened(1, 1) // not by itself
		w.fails(w.status(1).LastError, errRefused)
		if g := w.detector.peer(address(1)).gate; g != gateArmedHold {
			w.Errorf("gate is %b when the peer has been left alone long enough", g)
		}
		w.send(detect.Egress, 1)
		w.opened(1, 2)
		w.backsOff(1, 2)
	})
}

// An event of before the failure is no reason to try again at once.
func TestStragglerDoesNotEndBackOff(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.connector.open = refuse
		w.add(1)
		w.send(detect.Egress, 1)
		id, _ := w.detector.find(address(1))
		w.detector.events <- detect.Event{ID: id, Time: time.Now()}
		w.opened(1, 1)
		w.backsOff(1, 1)
	})
}

func TestBackOffDoubles(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.connector.open = refuse
		w.add(1)
		for failures := 1; failures <= 15; failures++ {
			w.send(detect.Egress, 1)
			w.opened(1, failures)
			w.backsOff(1, failures)
			w.sleepBackOff(1)
		}
	})
}

// Half of the time is by chance, and all of that half occurs.
func TestBackOffIsJittered(t *testing.T) {
	for failures, most := range map[int]time.Duration{
		1: time.Second, 2: 2 * time.Second, 9: 256 * time.Second, 10: maxBackOff, 1 << 40: maxBackOff,
	} {
		shortest, longest := most, time.Duration(0)
		for range 1000 {
			d := backOff(failures)
			shortest, longest = min(shortest, d), max(longest, d)
		}
		if shortest < most/2 || longest > most {
			t.Errorf("after %d failures from %s to %s, want %s to %s", failures, shortest, longest, most/2, most)
		}
		if shortest > most*6/10 || longest < most*9/10 {
			t.Errorf("after %d failures only from %s to %s of %s to %s", failures, shortest, longest, most/2, most)
		}
	}
}

func TestSuccessEndsBackOff(t *testing.T) {
	play(t, Options{}, func(w *world) {
		answers := newAnswers(w)
		w.connector.open = answers.open
		w.add(1)
		for failures := 1; failures <= 3; failures++ {
			w.send(detect.Egress, 1)
			answers.give(w, errRefused)
			w.backsOff(1, failures)
			w.sleepBackOff(1)
		}
		w.send(detect.Egress, 1)
		answers.give(w, nil)
		w.is(1, Connected)
		if s := w.status(1); s.LastError != nil || s.Wakes != 1 {
			w.Errorf("once connected: %d wakes, last error %v", s.Wakes, s.LastError)
		}
		w.parksAfter(1, threshold)
		w.send(detect.Egress, 1)
		answers.give(w, errRefused)
		w.backsOff(1, 1)
	})
}

// Who asks for a peer does not wait for the back-off to end.
func TestRequestEndsBackOff(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.connector.open = refuse
		w.add(1)
		for failures := 1; failures <= 3; failures++ {
			w.send(detect.Egress, 1)
			w.backsOff(1, failures)
			w.sleepBackOff(1)
		}
		w.ok(w.ActivatePeer(key(1)))
		w.opened(1, 4)
		w.backsOff(1, 1)
		w.ok(w.ActivatePeer(key(1)))
		w.opened(1, 5)
		w.backsOff(1, 1)
	})
}

// A permanent peer is opened again and again, by itself.
func TestPermanentPeerIsRetried(t *testing.T) {
	play(t, Options{}, func(w *world) {
		answers := newAnswers(w)
		w.connector.open = answers.open
		w.add(1)
		w.exclude(1)
		for failures := 1; failures <= 4; failures++ {
			w.opened(1, failures)
			answers.give(w, errRefused)
			retry := w.backsOff(1, failures).RetryAt
			time.Sleep(time.Until(retry))
			w.is(1, Connecting)
			wake := w.connector.of("open", key(1))[failures].wake
			if wake.Reason != ReasonRequest || !wake.Time.Equal(retry) {
				w.Errorf("opened again by %q at %s, want a request at %s", wake.Reason, wake.Time, retry)
			}
		}
		time.Sleep(time.Second)
		answers.give(w, nil)
		w.is(1, Connected)
		if s := w.status(1); s.LastWake.Took != time.Second || s.LastError != nil {
			w.Errorf("wake took %s, last error %v", s.LastWake.Took, s.LastError)
		}
	})
}

// A peer that is no longer permanent is not opened by itself.
func TestIncludedPeerIsNotRetried(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.connector.open = refuse
		w.add(1)
		w.exclude(1)
		w.backsOff(1, 1)
		w.exclude()
		w.sleepBackOff(1)
		w.opened(1, 1)
		w.send(detect.Egress, 1)
		w.opened(1, 2)
	})
}

// Bug 9: a held first packet survived and was replayed at the next wake.
func TestBug09HeldPacketsDoNotSurviveFailure(t *testing.T) {
	play(t, Options{Wake: WakeHold}, func(w *world) {
		answers := newAnswers(w)
		w.connector.open = answers.open
		w.add(1)
		w.send(detect.Egress, 1)
		w.send(detect.Egress, 1)
		answers.give(w, errRefused)
		w.backsOff(1, 1)
		w.sleepBackOff(1)

		w.send(detect.Egress, 1)
		answers.give(w, nil)
		w.is(1, Connected)
		if a := w.status(1).Activity; a.Held != 3 || a.Dropped != 2 || a.Replayed != 1 {
			w.Errorf("%d held, %d dropped, %d replayed, want 3, 2, 1", a.Held, a.Dropped, a.Replayed)
		}
	})
}
