// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"context"
	"testing"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

func TestRemovePeer(t *testing.T) {
	for name, ready := range map[string]func(*world){
		"idle":       func(w *world) { w.add(1) },
		"connected":  func(w *world) { w.addConnected(1) },
		"permanent":  func(w *world) { w.addConnected(1); w.exclude(1) },
		"connecting": func(w *world) { w.hang() },
		"backing off": func(w *world) {
			w.connector.open = refuse
			w.add(1)
			w.send(detect.Egress, 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, Options{}, func(w *world) {
				ready(w)
				id, _ := w.detector.find(address(1))
				opens := len(w.connector.all("open"))
				w.ok(w.RemovePeer(key(1)))
				if all, err := w.Peers(); err != nil || len(all) != 0 {
					w.Errorf("%d peers are left, error %v", len(all), err)
				}
				w.ok(w.do(func() error {
					if len(w.deadlines.all)+w.calls.wakes.Len()+w.calls.requests.Len()+len(w.byID) != 0 {
						w.Error("the manager still knows the peer")
					}
					return nil
				}))
				if removed := w.detector.removed; len(removed) != 1 || removed[0] != id {
					w.Errorf("the detector was told to remove %d, want %d", removed, id)
				}
				w.detector.events <- detect.Event{ID: id, Time: time.Now()}
				time.Sleep(time.Hour)
				w.opened(1, opens)
				w.closed(1, 0)
			})
		})
	}
}

// Bug 14: a remove raced a lookup and brought the peer back. Here an Open is
// under way when its peer is removed.
func TestBug14LateOpenBringsNobodyBack(t *testing.T) {
	for name, err := range map[string]error{"ok": nil, "failed": errRefused} {
		t.Run(name, func(t *testing.T) {
			play(t, Options{}, func(w *world) {
				answers := w.hang()
				changes, err2 := w.Subscribe()
				w.ok(err2)
				defer changes.Close()
				w.ok(w.RemovePeer(key(1)))
				w.next(changes, Change{Key: key(1), From: Connecting})
				answers.give(w, err)
				time.Sleep(time.Hour)
				_, err2 = w.Peer(key(1))
				w.fails(err2, ErrUnknownPeer)
				w.nothingNext(changes)
				w.closed(1, 0)
			})
		})
	}
}

func TestRemovePeerCancelsOpen(t *testing.T) {
	play(t, Options{}, func(w *world) {
		cancelled := make(chan error, 1)
		w.connector.open = func(ctx context.Context, _ Key, _ Wake) error {
			<-ctx.Done()
			cancelled <- ctx.Err()
			return nil
		}
		w.add(1)
		w.send(detect.Egress, 1)
		w.ok(w.RemovePeer(key(1)))
		start := time.Now()
		w.fails(<-cancelled, context.Canceled)
		if !time.Now().Equal(start) {
			w.Errorf("the Open was cancelled %s after its peer was removed", time.Since(start))
		}
	})
}

// A peer that has the key of one before it waits until the connector is done
// with that one, and is another peer in all else.
func TestReaddedPeerWaitsForOldCall(t *testing.T) {
	for name, err := range map[string]error{"ok": nil, "failed": errRefused} {
		t.Run(name, func(t *testing.T) {
			play(t, Options{OpenTimeout: openTimeout}, func(w *world) {
				answers := w.hang()
				w.ok(w.RemovePeer(key(1)))
				w.add(1)
				w.is(1, Idle)
				time.Sleep(openTimeout)
				w.is(1, Idle)
				w.send(detect.Egress, 1)
				time.Sleep(time.Hour)
				w.is(1, Connecting)
				w.opened(1, 1)

				answers.give(w, err) // of the old peer
				w.is(1, Connecting)
				w.opened(1, 2)
				w.ok(w.status(1).LastError)
				answers.give(w, nil)
				w.is(1, Connected)
			})
		})
	}
}

// The same for its Close.
func TestReaddedPeerClosesAfterOldCall(t *testing.T) {
	play(t, Options{}, func(w *world) {
		answers := w.hang()
		w.ok(w.RemovePeer(key(1)))
		w.addConnected(1)
		w.ok(w.DeactivatePeer(key(1)))
		w.is(1, Idle)
		w.closed(1, 0)
		answers.give(w, nil)
		w.closed(1, 1)
		w.is(1, Idle)

		w.ok(w.ActivatePeer(key(1)))
		answers.give(w, nil)
		w.is(1, Connected)
	})
}

// What becomes of the old peer's Close is not the new one's fault.
func TestReaddedPeerHasNoOldError(t *testing.T) {
	play(t, Options{}, func(w *world) {
		answers := newAnswers(w)
		w.connector.close = answers.deafClose
		w.addConnected(1)
		w.ok(w.DeactivatePeer(key(1)))
		w.ok(w.RemovePeer(key(1)))
		w.add(1)
		answers.give(w, errRefused)
		w.ok(w.status(1).LastError)
	})
}

// A Close that waits is needless once the peer is wanted again.
func TestReaddedPeerWakesBeforeItsClose(t *testing.T) {
	play(t, Options{}, func(w *world) {
		answers := w.hang()
		w.ok(w.RemovePeer(key(1)))
		w.addConnected(1)
		w.ok(w.DeactivatePeer(key(1)))
		w.send(detect.Egress, 1)
		answers.give(w, nil)
		w.is(1, Connecting)
		answers.give(w, nil)
		w.is(1, Connected)
		w.opened(1, 2)
		w.closed(1, 0)
	})
}

// Bug 13: a timer started for a removed peer hit a re-created peer with the
// same key.
func TestBug13TimersEndWithTheirPeer(t *testing.T) {
	t.Run("inactivity", func(t *testing.T) {
		play(t, Options{}, func(w *world) {
			w.addConnected(1)
			time.Sleep(threshold - time.Second)
			w.ok(w.RemovePeer(key(1)))
			w.addConnected(1)
			w.parksAfter(1, threshold)
		})
	})
	t.Run("open timeout", func(t *testing.T) {
		play(t, Options{OpenTimeout: openTimeout}, func(w *world) {
			answers := newAnswers(w)
			w.connector.open = answers.open
			w.add(1)
			w.send(detect.Egress, 1)
			time.Sleep(openTimeout - time.Second)
			w.ok(w.RemovePeer(key(1)))
			w.add(1)
			w.send(detect.Egress, 1)
			time.Sleep(openTimeout - 1)
			w.is(1, Connecting)
			time.Sleep(time.Nanosecond)
			w.backsOff(1, 1)
		})
	})
	t.Run("back-off", func(t *testing.T) {
		play(t, Options{}, func(w *world) {
			w.connector.open = refuse
			w.add(1)
			w.send(detect.Egress, 1)
			w.backsOff(1, 1)
			w.ok(w.RemovePeer(key(1)))
			w.add(1)
			if s := w.status(1); s.LastError != nil || !s.RetryAt.IsZero() {
				w.Errorf("the new peer has the last error %v and is left alone until %s", s.LastError, s.RetryAt)
			}
			w.send(detect.Egress, 1)
			w.opened(1, 2)
			w.backsOff(1, 1)
		})
	})
}
