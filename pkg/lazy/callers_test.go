// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

// These tests are about who calls the manager, and when.

// Bug 7: a peer map was iterated by one goroutine and changed by another. The
// race detector judges.
func TestBug07ManyCallers(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.add(0)
		var callers sync.WaitGroup
		for n := byte(1); n <= 8; n++ {
			callers.Go(func() {
				for range 50 {
					_, err := w.AddPeer(peerOf(n))
					w.fails(err, nil)
					_, err = w.Peers()
					w.fails(err, nil)
					w.detector.send(detect.Egress, address(n))
					w.fails(w.UpdatePeer(peerOf(n)), nil)
					w.fails(w.ActivatePeer(key(0)), nil)
					_, err = w.SetExcluded([]Key{key(n)})
					w.fails(err, nil)
					if err := w.DeactivatePeer(key(0)); err != nil {
						w.fails(err, ErrStaysAwake)
					}
					w.fails(w.RemovePeer(key(n)), nil)
				}
			})
		}
		callers.Wait()
		synctest.Wait()
		if all, err := w.Peers(); err != nil || len(all) != 1 {
			w.Errorf("%d peers are left, error %v", len(all), err)
		}
	})
}

// Bug 11: deadlocks between the activity callback and reconfiguration. A
// connector may call the manager.
func TestBug11ConnectorCallsManager(t *testing.T) {
	play(t, Options{MaxOpens: 1}, func(w *world) {
		w.connector.open = func(_ context.Context, peer Key, _ Wake) error {
			_, err := w.Peers()
			w.fails(err, nil)
			w.fails(w.ActivatePeer(peer), nil)
			w.fails(w.UpdatePeer(peerOf(peer[0])), nil)
			if peer == key(2) {
				w.fails(w.RemovePeer(peer), nil)
			}
			return nil
		}
		w.connector.close = func(_ context.Context, peer Key) error {
			return w.ActivatePeer(peer)
		}
		w.add(1, 2)
		w.send(detect.Egress, 1)
		w.send(detect.Egress, 2)
		w.is(1, Connected)
		time.Sleep(threshold)
		w.is(1, Connected) // its Close has woken it
		w.opened(1, 2)
		_, err := w.Peer(key(2))
		w.fails(err, ErrUnknownPeer)
	})
}

// Bug 15: reading the status created or woke peers.
func TestBug15ReadingChangesNothing(t *testing.T) {
	play(t, Options{Wake: WakeHold}, func(w *world) {
		w.connector.open = func(_ context.Context, peer Key, _ Wake) error {
			if peer == key(3) {
				return errRefused
			}
			return nil
		}
		w.add(1, 3)
		w.addConnected(2)
		w.send(detect.Egress, 3)
		changes, err := w.Subscribe()
		w.ok(err)
		defer changes.Close()
		retry, idle := w.status(3).RetryAt, w.status(2).IdleAt
		arms, calls := w.detector.arms, len(w.connector.calls)
		for range 10 {
			time.Sleep(time.Millisecond)
			_, err := w.Peer(key(9))
			w.fails(err, ErrUnknownPeer)
			all, err := w.Peers()
			w.ok(err)
			if len(all) != 3 {
				w.Fatalf("there are %d peers", len(all))
			}
		}
		w.is(1, Idle)
		w.is(3, Idle)
		if w.detector.arms != arms || len(w.connector.calls) != calls {
			w.Errorf("%d gates were set, the connector was called %d times",
				w.detector.arms-arms, len(w.connector.calls)-calls)
		}
		if !w.status(3).RetryAt.Equal(retry) || !w.status(2).IdleAt.Equal(idle) {
			w.Error("deadlines have moved")
		}
		w.nothingNext(changes)
		w.parksAfter(2, time.Until(idle))
	})
}
