// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

// remover is a fake connector that evicts; nil evict succeeds at once.
type remover struct {
	*fakeConnector
	evict func(context.Context, Key) (time.Time, error)
}

func (r remover) Evict(ctx context.Context, peer Key) (time.Time, error) {
	defer r.begin(noted{"evict", peer, time.Now(), Wake{}})()
	if r.evict == nil {
		return time.Time{}, nil
	}
	return r.evict(ctx, peer)
}

// playRemover runs a test with a dormant peer 1 that is evicted after three minutes.
func playRemover(t *testing.T, evict func(context.Context, Key) (time.Time, error), test func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{TB: t, detector: newFakeDetector(), connector: newFakeConnector(t)}
		var err error
		w.Manager, err = New(Options{
			Detector: w.detector, Connector: remover{w.connector, evict}, InactivityThreshold: threshold, EvictAfter: MinEvictAfter,
		})
		w.ok(err)
		defer func() { w.ok(w.Close()) }()
		w.add(1)
		test(w)
	})
}

func (w *world) isEvicted(n byte, want bool) {
	w.Helper()
	if s := w.status(n); s.Evicted != want || s.State != Idle {
		w.Fatalf("peer %d is %s, evicted: %v, want %v", n, s.State, s.Evicted, want)
	}
}

// TestReturned has somebody else put an evicted peer back: it sleeps on as one that is on the device, and is evicted
// again after the same time.
func TestReturned(t *testing.T) {
	playRemover(t, nil, func(w *world) {
		w.ok(w.ReportReturned(key(1))) // is not evicted: nothing happens
		time.Sleep(MinEvictAfter)
		w.isEvicted(1, true)
		w.called("evict", 1, 1)
		time.Sleep(time.Hour)
		w.ok(w.ReportReturned(key(1)))
		w.isEvicted(1, false)
		time.Sleep(MinEvictAfter - time.Second)
		w.isEvicted(1, false)
		time.Sleep(time.Second)
		w.isEvicted(1, true)
		w.called("evict", 1, 2)

		// Back on the device its packets pass again.
		w.ok(w.ReportReturned(key(1)))
		w.send(detect.Egress, 1)
		w.is(1, Connected)
		if held := w.status(1).Activity.Held; held > 0 {
			t.Errorf("%d packets were held", held)
		}
		w.ok(w.ReportReturned(key(1))) // is connected: nothing happens
		w.is(1, Connected)
		w.fails(w.ReportReturned(key(2)), ErrUnknownPeer)
	})
}

// TestReturnedWhileEvicting believes the Evict that is under way: it has yet to say what came of it.
func TestReturnedWhileEvicting(t *testing.T) {
	slow := func(context.Context, Key) (time.Time, error) {
		time.Sleep(time.Second)
		return time.Time{}, nil
	}
	playRemover(t, slow, func(w *world) {
		time.Sleep(MinEvictAfter)
		w.isEvicted(1, true)
		w.ok(w.ReportReturned(key(1)))
		w.isEvicted(1, true)
		time.Sleep(time.Second)
		w.isEvicted(1, true)
		w.called("evict", 1, 1)
	})
}

// TestReturnedWhileBackingOff has the peer return when it could not be opened: its packets are WireGuard's for that while.
func TestReturnedWhileBackingOff(t *testing.T) {
	playRemover(t, nil, func(w *world) {
		w.connector.open = func(context.Context, Key, Wake) error { return errRefused }
		time.Sleep(MinEvictAfter)
		w.isEvicted(1, true)
		w.send(detect.Egress, 1)
		w.isEvicted(1, true)
		w.ok(w.ReportReturned(key(1)))
		w.isEvicted(1, false)
		w.send(detect.Egress, 1)
		w.opened(1, 1)
		time.Sleep(minBackOff)
		w.send(detect.Egress, 1)
		w.opened(1, 2)
	})
}
