// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

// These tests are about whose turn it is to be opened.

// order returns the peers in the order in which their Opens began.
func (w *world) order() []byte {
	synctest.Wait()
	var numbers []byte
	for _, open := range w.connector.all("open") {
		numbers = append(numbers, open.peer[0])
	}
	return numbers
}

func (w *world) wantOrder(numbers ...byte) {
	w.Helper()
	if got := w.order(); !slices.Equal(got, numbers) {
		w.Fatalf("the Opens began in the order %d, want %d", got, numbers)
	}
}

func TestNeverMoreOpensAtOnce(t *testing.T) {
	for most, options := range map[int]Options{3: {MaxOpens: 3}, DefaultMaxOpens: {}} {
		play(t, options, func(w *world) {
			answers := newAnswers(w)
			w.connector.open = answers.open
			for n := range byte(200) {
				w.add(n)
				w.send(detect.Egress, n)
			}
			for i := range 200 {
				if i%3 == 0 {
					answers.give(w, errRefused)
				} else {
					answers.give(w, nil)
				}
			}
			if got := len(w.connector.all("open")); got != 200 {
				w.Errorf("%d Opens in all, want 200", got)
			}
			if w.connector.most != most {
				w.Errorf("up to %d Opens at once, want %d", w.connector.most, most)
			}
		})
	}
}

func TestFirstComeFirstServed(t *testing.T) {
	play(t, Options{MaxOpens: 1}, func(w *world) {
		answers := newAnswers(w)
		w.connector.open = answers.open
		w.add(1, 2, 3, 4, 5)
		for _, n := range []byte{4, 2, 5, 1, 3} {
			w.send(detect.Egress, n)
			w.is(n, Connecting)
		}
		w.wantOrder(4)
		for _, err := range []error{nil, errRefused, nil, nil} {
			answers.give(w, err)
		}
		w.wantOrder(4, 2, 5, 1, 3)
	})
}

// Somebody waits for a peer that was asked for; requests, too, are served in
// the order in which they came.
func TestRequestsFirst(t *testing.T) {
	play(t, Options{MaxOpens: 1}, func(w *world) {
		answers := newAnswers(w)
		w.connector.open = answers.open
		w.add(1, 2, 3, 4, 5, 6)
		w.send(detect.Egress, 1)
		w.send(detect.Egress, 2)
		w.send(detect.Ingress, 3)
		w.ok(w.ActivatePeer(key(4)))
		w.exclude(5)
		w.ok(w.ActivatePeer(key(6)))
		for range 5 {
			answers.give(w, nil)
		}
		w.wantOrder(1, 4, 5, 6, 2, 3)
	})
}

// A peer that waits for a call of its own keeps nobody from being opened.
func TestOwnCallDelaysNobodyElse(t *testing.T) {
	play(t, Options{MaxOpens: 1}, func(w *world) {
		opening, closing := newAnswers(w), newAnswers(w)
		w.connector.open, w.connector.close = opening.open, closing.deafClose
		w.addConnected(1)
		w.add(2, 3)
		w.parksAfter(1, threshold)
		for n := byte(1); n <= 3; n++ {
			w.send(detect.Egress, n)
			w.is(n, Connecting)
		}
		w.wantOrder(2) // peer 1 is being closed
		opening.give(w, nil)
		w.wantOrder(2, 3)
		closing.give(w, nil)
		w.wantOrder(2, 3)
		opening.give(w, nil)
		w.wantOrder(2, 3, 1)
	})
}

// A connector that blocks for ever delays no other peer.
func TestHangingConnectorDelaysNobodyElse(t *testing.T) {
	play(t, Options{OpenTimeout: openTimeout, MaxOpens: 2}, func(w *world) {
		w.hang()
		for n := byte(2); n < 50; n++ {
			w.add(n)
			w.connect(n)
			if took := w.status(n).LastWake.Took; took != 0 {
				w.Errorf("wake of peer %d took %s", n, took)
			}
		}
		w.is(1, Connecting)
		w.ok(w.RemovePeer(key(2)))
		w.ok(w.UpdatePeer(peerOf(1)))
		time.Sleep(threshold)
		w.is(3, Idle)
	})
}

// A peer that is removed before its turn is not opened, and holds up nobody.
func TestRemovedWhileItWaits(t *testing.T) {
	play(t, Options{MaxOpens: 1}, func(w *world) {
		answers := newAnswers(w)
		w.connector.open = answers.open
		w.add(1, 2, 3)
		for n := byte(1); n <= 3; n++ {
			w.send(detect.Egress, n)
		}
		w.ok(w.RemovePeer(key(2)))
		answers.give(w, nil)
		answers.give(w, nil)
		w.is(3, Connected)
		w.wantOrder(1, 3)
	})
}

// A removed peer's Open counts no longer, even if it does not return.
func TestRemovedWhileItHangs(t *testing.T) {
	play(t, Options{MaxOpens: 1}, func(w *world) {
		w.hang()
		w.add(2)
		w.send(detect.Egress, 2)
		w.opened(2, 0)
		w.ok(w.RemovePeer(key(1)))
		w.is(2, Connected)
	})
}
