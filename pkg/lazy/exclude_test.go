// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"slices"
	"testing"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

// wantKeys fails the test if these are not the keys of the peers.
func (w *world) wantKeys(got []Key, numbers ...byte) {
	w.Helper()
	var want []Key
	for _, n := range numbers {
		want = append(want, key(n))
	}
	if !slices.Equal(got, want) {
		w.Errorf("keys are %v, want %v", got, want)
	}
}

// permanent fails the test unless the peer is, or is not, permanent.
func (w *world) permanent(n byte, want bool) {
	w.Helper()
	s := w.status(n)
	if s.Permanent != want {
		w.Errorf("peer %d: permanent is %t", n, s.Permanent)
	}
	if want && !s.IdleAt.IsZero() {
		w.Errorf("peer %d is permanent and will be idle at %s", n, s.IdleAt)
	}
}

// The list is given whole: what is new on it is returned, and opened if it
// sleeps.
func TestExclude(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.add(1, 2, 3)
		w.addConnected(4)
		w.wantKeys(w.exclude(3, 1, 3, 9), 3, 1)
		w.wantKeys(w.exclude(4, 1), 4)
		w.wantKeys(w.exclude(4, 1))

		w.opened(1, 1)
		w.opened(2, 0)
		w.opened(3, 1)
		w.opened(4, 0)
		if wake := w.status(1).LastWake; wake.Reason != ReasonRequest || !wake.Time.Equal(time.Now()) {
			w.Errorf("an excluded peer woke by %s at %s", wake.Reason, wake.Time)
		}
		for n, want := range map[byte]bool{1: true, 2: false, 3: false, 4: true} {
			w.permanent(n, want)
		}
		time.Sleep(time.Hour)
		w.is(1, Connected)
		w.is(2, Idle)
		w.is(3, Idle)
		w.is(4, Connected)

		w.wantKeys(w.exclude())
		w.parksAfter(1, threshold)
		w.is(4, Idle)
	})
}

// Peers that are no longer on the list are watched from then on, however long
// ago their last packet was.
func TestIncludeStartsDeadline(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.addConnected(1)
		w.exclude(1)
		w.send(detect.Egress, 1)
		time.Sleep(time.Hour)
		w.exclude()
		w.permanent(1, false)
		w.parksAfter(1, threshold)
	})
}

func TestExcludeBeforePeerComes(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.wantKeys(w.exclude(1, 2))
		excluded, err := w.AddPeer(peerOf(1))
		w.ok(err)
		if !excluded {
			w.Error("AddPeer does not say that the peer is excluded")
		}
		w.opened(1, 1)
		w.addConnected(2)
		w.opened(2, 0)
		time.Sleep(time.Hour)
		for n := byte(1); n <= 2; n++ {
			w.is(n, Connected)
			w.permanent(n, true)
		}

		w.ok(w.RemovePeer(key(1)))
		excluded, err = w.AddPeer(peerOf(1))
		w.ok(err)
		if !excluded {
			w.Error("a peer that comes back is no longer excluded")
		}
	})
}

func TestExcludeWhileConnecting(t *testing.T) {
	play(t, Options{}, func(w *world) {
		answers := newAnswers(w)
		w.connector.open = answers.open
		w.add(1, 2)
		w.send(detect.Egress, 1)
		w.send(detect.Egress, 2)
		w.wantKeys(w.exclude(1, 2), 1, 2)
		w.exclude(1) // peer 2 is lazy again before it is connected
		answers.give(w, nil)
		answers.give(w, nil)
		w.is(1, Connected)
		w.parksAfter(2, threshold)
		w.is(1, Connected)
		w.opened(1, 1)
		w.opened(2, 1)
	})
}

func TestExcludeEndsBackOff(t *testing.T) {
	play(t, Options{}, func(w *world) {
		answers := newAnswers(w)
		w.connector.open = answers.open
		w.add(1)
		w.send(detect.Egress, 1)
		answers.give(w, errRefused)
		w.backsOff(1, 1)
		w.exclude(1)
		w.opened(1, 2)
		answers.give(w, nil)
		w.is(1, Connected)
	})
}

// Bug 21: disabling laziness cut live connections. Disabling it is to exclude
// every peer.
func TestBug21DisablingLazinessCutsNothing(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.add(1)
		w.connect(1)
		w.addConnected(2)
		w.add(3)
		w.wantKeys(w.exclude(1, 2, 3), 1, 2, 3)
		time.Sleep(time.Hour)
		for n := byte(1); n <= 3; n++ {
			w.is(n, Connected)
			w.closed(n, 0)
		}
		w.opened(1, 1)
		w.opened(2, 0)
		w.opened(3, 1)
	})
}
