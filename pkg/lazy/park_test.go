// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"fmt"
	"testing"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

// A peer must not be put to sleep under a packet. These tests let packets pass
// at each point of a park.

// once returns a hook of the detector's that sends one packet.
func (w *world) once(direction detect.Direction, n byte) func(detect.ID) {
	sent := false
	return func(detect.ID) {
		if !sent {
			sent = true
			w.detector.send(direction, address(n))
		}
	}
}

// Bug 8: the idle decision was not rechecked before a slow teardown. A packet
// between the last look and the arming raises no event, it only counts.
func TestBug08PacketBeforeArming(t *testing.T) {
	for _, direction := range []detect.Direction{detect.Egress, detect.Ingress} {
		for _, mode := range []WakeMode{WakePass, WakeHold} {
			t.Run(fmt.Sprintf("%s mode %d", direction, mode), func(t *testing.T) {
				play(t, Options{Wake: mode}, func(w *world) {
					w.detector.beforeArm = w.once(direction, 1)
					w.addConnected(1)
					time.Sleep(threshold)
					w.staysConnected(1)
				})
			})
		}
	}
}

// A packet between the arming and the last look counts, or is held, and raises
// an event as well. Either is enough, both must not do harm.
func TestPacketAfterArming(t *testing.T) {
	for _, direction := range []detect.Direction{detect.Egress, detect.Ingress} {
		for _, mode := range []WakeMode{WakePass, WakeHold} {
			t.Run(fmt.Sprintf("%s mode %d", direction, mode), func(t *testing.T) {
				play(t, Options{Wake: mode}, func(w *world) {
					w.detector.afterArm = w.once(direction, 1)
					w.addConnected(1)
					time.Sleep(threshold)
					w.staysConnected(1)
				})
			})
		}
	}
}

// staysConnected fails the test if the peer does not take back a park: not
// closed, its packets pass, and it is parked when it is silent again.
func (w *world) staysConnected(n byte) {
	w.Helper()
	w.is(n, Connected)
	w.closed(n, 0)
	w.opened(n, 0)
	if p := w.detector.peer(address(n)); p.gate != gateOpen || p.waiting != 0 {
		w.Errorf("gate is %b, %d packets wait", p.gate, p.waiting)
	}
	w.parksAfter(n, threshold)
}

// A packet that comes while the peer is closed reopens it, after that.
func TestPacketWhileClosing(t *testing.T) {
	for _, mode := range []WakeMode{WakePass, WakeHold} {
		play(t, Options{Wake: mode}, func(w *world) {
			answers := newAnswers(w)
			w.connector.close = answers.deafClose
			w.addConnected(1)
			time.Sleep(threshold)
			w.is(1, Idle)
			w.closed(1, 1)

			w.send(detect.Egress, 1)
			w.is(1, Connecting)
			time.Sleep(2 * time.Second)
			w.opened(1, 0)
			answers.give(w, nil)
			w.is(1, Connected)
			w.opened(1, 1)
			if took := w.status(1).LastWake.Took; took != 2*time.Second {
				w.Errorf("the wake took %s, want 2 s", took)
			}
			if p := w.detector.peer(address(1)); p.waiting != 0 || p.activity.TxPackets != 1 {
				w.Errorf("%d packets wait, %d were sent", p.waiting, p.activity.TxPackets)
			}
		})
	}
}

// An error of Close is reported, and changes nothing else.
func TestCloseFails(t *testing.T) {
	play(t, Options{}, func(w *world) {
		answers := newAnswers(w)
		w.connector.close = answers.deafClose
		w.addConnected(1)
		time.Sleep(threshold)
		w.is(1, Idle)
		answers.give(w, errRefused)
		w.is(1, Idle)
		s := w.status(1)
		w.fails(s.LastError, errRefused)
		if !s.RetryAt.IsZero() {
			w.Errorf("the peer backs off until %s", s.RetryAt)
		}
		w.connect(1)
		w.ok(w.status(1).LastError)
	})
}

func TestDeactivate(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.add(1)
		w.ok(w.DeactivatePeer(key(1)))
		w.is(1, Idle)
		w.closed(1, 0)

		answers := newAnswers(w)
		w.connector.open = answers.open
		w.send(detect.Egress, 1)
		w.fails(w.DeactivatePeer(key(1)), ErrStaysAwake)
		w.is(1, Connecting)
		answers.give(w, nil)
		w.is(1, Connected)

		w.ok(w.DeactivatePeer(key(1)))
		w.is(1, Idle)
		w.closed(1, 1)

		w.exclude(1)
		answers.give(w, nil)
		w.fails(w.DeactivatePeer(key(1)), ErrStaysAwake)
		w.is(1, Connected)
		w.closed(1, 1)
	})
}

// Bug 20: one side slept while the other kept sending into a dead session.
// Told that the remote sleeps, the peer sleeps too, and packets either way
// wake it.
func TestBug20SleepsWithRemote(t *testing.T) {
	for _, direction := range []detect.Direction{detect.Egress, detect.Ingress} {
		t.Run(direction.String(), func(t *testing.T) {
			play(t, Options{}, func(w *world) {
				w.add(1)
				w.connect(1)
				time.Sleep(time.Second)
				w.send(detect.Egress, 1) // there was traffic just now
				w.ok(w.DeactivatePeer(key(1)))
				w.is(1, Idle)
				w.closed(1, 1)
				w.send(direction, 1)
				w.is(1, Connected)
				w.opened(1, 2)
			})
		})
	}
}
