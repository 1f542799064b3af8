// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"testing"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

// These tests are about what the connector's owner reports.

// lose reports that the connection of a connected peer broke.
func (w *world) lose(n byte) {
	w.Helper()
	w.is(n, Connected)
	w.ok(w.ReportDisconnected(key(n)))
	w.is(n, Connecting)
}

// A broken connection starts the idle clock, and packets that nobody can answer
// do not stop it.
func TestDisconnectStartsIdleClock(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.add(1)
		w.connect(1)
		s := w.subscribe()
		time.Sleep(threshold - 1)
		w.lose(1)
		w.next(s, Change{Key: key(1), From: Connected, To: Connecting})
		if got := time.Until(w.status(1).IdleAt); got != threshold {
			t.Errorf("the peer says that it will be idle in %s, want %s", got, threshold)
		}
		time.Sleep(threshold - 1)
		w.send(detect.Egress, 1)
		w.ok(w.ReportDisconnected(key(1))) // that is known
		w.is(1, Connecting)
		time.Sleep(time.Nanosecond)
		w.is(1, Idle)
		w.next(s, Change{Key: key(1), From: Connecting, To: Idle})
		w.closed(1, 1)
		w.connect(1) // anew
		w.opened(1, 2)
	})
}

func TestReconnectStopsIdleClock(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.add(1)
		w.connect(1)
		s := w.subscribe()
		w.lose(1)
		w.next(s, Change{Key: key(1), From: Connected, To: Connecting})
		time.Sleep(threshold - 1)
		w.ok(w.ReportConnected(key(1)))
		w.next(s, Change{Key: key(1), From: Connecting, To: Connected})
		w.nothingNext(s)
		w.opened(1, 1)
		w.closed(1, 0)
		w.ok(w.ReportConnected(key(1))) // that is known
		w.parksAfter(1, threshold)      // from the reconnect on
	})
}

// What the remote has connected is opened here, too, even if it could not be
// before.
func TestDormantPeerIsReportedConnected(t *testing.T) {
	play(t, Options{}, func(w *world) {
		answers := newAnswers(w)
		w.connector.open = answers.open
		w.add(1)
		w.ok(w.ReportDisconnected(key(1))) // says nothing new
		w.is(1, Idle)
		w.ok(w.ReportConnected(key(1)))
		w.is(1, Connecting)
		w.ok(w.ReportConnected(key(1))) // its Open's end tells
		w.ok(w.ReportDisconnected(key(1)))
		w.is(1, Connecting)
		w.opened(1, 1)
		answers.give(w, errRefused)
		w.backsOff(1, 1)
		w.ok(w.ReportConnected(key(1)))
		answers.give(w, nil)
		w.is(1, Connected)
		w.opened(1, 2)
		if got := w.status(1).LastWake.Reason; got != ReasonRequest {
			t.Errorf("woke by %s", got)
		}
		w.fails(w.ReportConnected(key(9)), ErrUnknownPeer)
		w.fails(w.ReportDisconnected(key(9)), ErrUnknownPeer)
	})
}

// The clock of a broken connection is one as others are: it has the peer's
// threshold, as it is now, can be cut short, and stops for permanent peers.
func TestIdleClockOfBrokenConnection(t *testing.T) {
	long := peerOf(1)
	long.Threshold = 2 * threshold
	for name, tc := range map[string]struct {
		after time.Duration // that the peer is idle
		do    func(*world)
	}{
		"threshold": {2*threshold - time.Second, func(w *world) { w.ok(w.UpdatePeer(long)) }},
		"default": {2*threshold - time.Second, func(w *world) {
			w.ok(w.SetOptions(Options{InactivityThreshold: 2 * threshold}))
		}},
		"sleep":   {0, func(w *world) { w.ok(w.DeactivatePeer(key(1))) }},
		"request": {threshold - time.Second, func(w *world) { w.ok(w.ActivatePeer(key(1))) }},
		"group": {threshold, func(w *world) {
			w.ok(w.AddActivePeers(memberOf(2, "a")))
			w.ok(w.UpdatePeer(memberOf(1, "a")))
			w.fails(w.DeactivatePeer(key(1)), ErrStaysAwake)
		}},
		"permanent": {time.Hour + threshold, func(w *world) {
			w.exclude(1)
			time.Sleep(time.Hour)
			w.fails(w.DeactivatePeer(key(1)), ErrStaysAwake)
			w.exclude()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, Options{}, func(w *world) {
				w.addConnected(1)
				w.lose(1)
				time.Sleep(time.Second)
				start := time.Now()
				tc.do(w)
				if tc.after > 0 {
					time.Sleep(time.Until(start.Add(tc.after - 1)))
					w.is(1, Connecting)
					time.Sleep(time.Nanosecond)
				}
				w.is(1, Idle)
				w.closed(1, 1)
			})
		})
	}
}

// A packet that passes while such a peer falls asleep opens it anew.
func TestPacketAtTheEndOfBrokenConnection(t *testing.T) {
	play(t, Options{Wake: WakeHold}, func(w *world) {
		w.addConnected(1)
		w.detector.afterArm = w.once(detect.Egress, 1)
		w.lose(1)
		time.Sleep(threshold)
		w.is(1, Connected)
		w.closed(1, 1)
		w.opened(1, 1)
		if a := w.status(1).Activity; a.Replayed != 1 {
			t.Errorf("%d packets were replayed, want 1", a.Replayed)
		}
	})
}

func TestRemovedWhileConnectionIsBroken(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.addConnected(1)
		w.lose(1)
		w.ok(w.RemovePeer(key(1)))
		w.addConnected(1)
		w.parksAfter(1, threshold)
	})
}
