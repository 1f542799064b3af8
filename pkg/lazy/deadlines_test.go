// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"testing"
	"testing/synctest"
	"time"
)

// The timer fires at each deadline in turn, and at no other time.
func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		d := newDeadlines()
		var peers []*peer
		for _, seconds := range []time.Duration{3, 1, 4, 2, 5, 6} {
			p := &peer{deadline: noDeadline}
			d.set(p, start.Add(seconds*time.Second))
			peers = append(peers, p)
		}
		d.set(peers[2], start.Add(1500*time.Millisecond)) // earlier
		d.set(peers[0], start.Add(7*time.Second))         // later
		d.set(peers[4], time.Time{})                      // never
		d.set(peers[4], time.Time{})
		for _, want := range []struct {
			peer  *peer
			after time.Duration
		}{
			{peers[1], 1000 * time.Millisecond},
			{peers[2], 1500 * time.Millisecond},
			{peers[3], 2000 * time.Millisecond},
			{peers[5], 6000 * time.Millisecond},
			{peers[0], 7000 * time.Millisecond},
		} {
			at := <-d.timer.C
			if at.Sub(start) != want.after {
				t.Errorf("the timer fires after %s, want %s", at.Sub(start), want.after)
			}
			if p := d.expired(at); p != want.peer || !d.of(p).IsZero() {
				t.Errorf("another peer has expired after %s", want.after)
			}
			if d.expired(at) != nil {
				t.Errorf("two peers have expired after %s", want.after)
			}
		}
		select {
		case <-d.timer.C:
			t.Error("the timer fires without a deadline")
		case <-time.After(time.Hour):
		}
	})
}
