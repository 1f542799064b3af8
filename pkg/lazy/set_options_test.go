// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

// Bug 10: a too-low threshold silently became the default. Nor does it at run
// time: what is refused names the range, and nothing changes.
func TestBug10OptionsAreRefusedAtRunTime(t *testing.T) {
	for names, options := range map[string]Options{
		"InactivityThreshold: inactivity threshold out of range: 999.999999ms is shorter than 1s": {InactivityThreshold: MinThreshold - 1, MaxOpens: 7},
		"InactivityThreshold: inactivity threshold out of range: -1s is shorter than 1s":          {InactivityThreshold: -time.Second},
		"Wake":        {Wake: WakeHold + 1, InactivityThreshold: time.Hour},
		"OpenTimeout": {OpenTimeout: -1, InactivityThreshold: time.Hour},
		"MaxOpens":    {MaxOpens: -1, InactivityThreshold: time.Hour},
		"WakeRate":    {WakeRate: math.NaN(), InactivityThreshold: time.Hour},
		"WakeBurst":   {WakeBurst: -1, InactivityThreshold: time.Hour},
		"EvictAfter: 2m59.999999999s is shorter than 3m0s": {EvictAfter: MinEvictAfter - 1},
	} {
		play(t, Options{}, func(w *world) {
			w.addConnected(1)
			before := w.options
			if err := w.SetOptions(options); err == nil || !strings.Contains(err.Error(), names) {
				t.Errorf("error is %v, want one that names %s", err, names)
			}
			if w.options != before {
				t.Errorf("options have become %+v", w.options)
			}
			w.parksAfter(1, threshold)
		})
	}
}

// A new threshold counts from the last activity, and not for peers with one of
// their own.
func TestSetThreshold(t *testing.T) {
	play(t, Options{}, func(w *world) {
		own := peerOf(2)
		own.Threshold = time.Minute
		w.ok(w.AddActivePeers(peerOf(1), own))
		time.Sleep(3 * time.Second)
		w.ok(w.SetOptions(Options{InactivityThreshold: time.Hour}))
		time.Sleep(time.Minute - 3*time.Second - 1)
		w.is(2, Connected)
		time.Sleep(time.Nanosecond)
		w.is(2, Idle)
		w.ok(w.SetOptions(Options{})) // the default
		w.parksAfter(1, DefaultThreshold-time.Minute)
	})
}

// Detector and Connector stay, whatever is said of them.
func TestSetOptionsLeavesConnector(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.ok(w.SetOptions(Options{Connector: nullConnector{}, Detector: newFakeDetector()}))
		w.add(1)
		w.connect(1)
		w.opened(1, 1)
	})
}

// Dormant peers hold from now on, or pass. An event on its way still counts.
func TestSetWakeMode(t *testing.T) {
	play(t, Options{}, func(w *world) {
		passes := peerOf(2)
		passes.Wake = WakePass
		w.add(1)
		_, err := w.AddPeer(passes)
		w.ok(err)
		time.Sleep(time.Second)
		id, _ := w.detector.find(address(1))
		event := detect.Event{ID: id, Time: time.Now()}
		time.Sleep(time.Second)
		w.ok(w.SetOptions(Options{Wake: WakeHold}))
		for n, want := range map[byte]gate{1: gateArmedHold, 2: gateArmed} {
			if got := w.detector.peer(address(n)).gate; got != want {
				t.Errorf("gate of peer %d is %b, want %b", n, got, want)
			}
		}
		w.detector.events <- event
		w.is(1, Connected)
	})
}

// More Opens at once begin at once; fewer let those that run go on.
func TestSetMaxOpens(t *testing.T) {
	play(t, Options{MaxOpens: 1}, func(w *world) {
		answers := newAnswers(w)
		w.connector.open = answers.open
		for n := byte(1); n <= 6; n++ {
			w.add(n)
			w.send(detect.Egress, n)
		}
		w.wantOrder(1)
		w.ok(w.SetOptions(Options{MaxOpens: 3}))
		if got := len(w.order()); got != 3 {
			t.Fatalf("%d Opens have begun, want 3", got)
		}
		w.ok(w.SetOptions(Options{MaxOpens: 2}))
		answers.give(w, nil)
		if got := len(w.order()); got != 3 {
			t.Fatalf("%d Opens have begun, want 3 and 2 to run", got)
		}
		answers.give(w, nil)
		if got := len(w.order()); got != 4 {
			t.Fatalf("%d Opens have begun, want 4", got)
		}
	})
}

// Who waits for a token goes when the limit goes.
func TestSetWakeRate(t *testing.T) {
	play(t, Options{WakeRate: 1.0 / 3600, InactivityThreshold: time.Hour}, func(w *world) {
		w.add(1, 2, 3, 4, 5)
		w.connect(1)
		for n := byte(2); n <= 5; n++ {
			w.send(detect.Egress, n)
		}
		w.are(Connecting, 2, 3, 4, 5)
		w.ok(w.SetOptions(Options{WakeRate: 1, WakeBurst: 2, InactivityThreshold: time.Hour}))
		w.are(Connected, 2, 3)
		time.Sleep(time.Second - 1)
		w.is(4, Connecting)
		time.Sleep(time.Nanosecond)
		w.is(4, Connected)
		w.is(5, Connecting)
		w.ok(w.SetOptions(Options{InactivityThreshold: time.Hour}))
		w.is(5, Connected)
	})
}

// An Open has the time that it was begun with, and says so.
func TestSetOpenTimeout(t *testing.T) {
	play(t, Options{OpenTimeout: openTimeout}, func(w *world) {
		w.hang()
		w.ok(w.SetOptions(Options{OpenTimeout: time.Second}))
		time.Sleep(openTimeout - 1)
		w.is(1, Connecting)
		time.Sleep(time.Nanosecond)
		if err := w.backsOff(1, 1).LastError; err == nil || !strings.Contains(err.Error(), openTimeout.String()) {
			t.Errorf("last error is %v", err)
		}
	})
}

// Eviction begins for peers that have been dormant long enough, and ends for
// those that have not.
func TestSetEvictAfter(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.connector.evict = func(_ context.Context, peer Key) (again time.Time, err error) { return again, nil }
		w.add(1)
		time.Sleep(time.Hour)
		w.add(2)
		w.ok(w.SetOptions(Options{EvictAfter: evictAfter}))
		w.evicted(1, true, 1)
		time.Sleep(evictAfter - 1)
		w.evicted(2, false, 0)
		w.ok(w.SetOptions(Options{}))
		time.Sleep(time.Hour)
		w.evicted(2, false, 0)
		w.evicted(1, true, 1) // until it wakes
		w.connect(1)
		time.Sleep(24 * time.Hour)
		w.evicted(1, false, 1)
	})
}
