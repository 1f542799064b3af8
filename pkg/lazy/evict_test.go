// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

const evictAfter = MinEvictAfter

// playEvict runs a test in a world in which peers are taken off the device.
func playEvict(t *testing.T, test func(*world)) {
	t.Helper()
	play(t, Options{EvictAfter: evictAfter, OpenTimeout: openTimeout}, test)
}

// evicted fails the test unless the peer is dormant and off the device, or is
// there, and has had so many Evicts.
func (w *world) evicted(n byte, want bool, evicts int) {
	w.Helper()
	w.is(n, Idle)
	w.called("evict", n, evicts)
	if got := w.status(n).Evicted; got != want {
		w.Fatalf("peer %d is evicted: %t", n, got)
	}
	gate := gateArmed
	if want {
		gate = gateArmedHold
	}
	if p := w.detector.peer(address(n)); p.gate != gate || p.waiting != 0 {
		w.Errorf("gate of peer %d is %b, want %b; %d packets wait", n, p.gate, gate, p.waiting)
	}
}

// A peer is taken off the device when it has been dormant for long enough, once,
// and from then on its packets are held, whatever its wake mode.
func TestEvict(t *testing.T) {
	playEvict(t, func(w *world) {
		w.add(1)
		time.Sleep(evictAfter - 1)
		w.evicted(1, false, 0)
		time.Sleep(time.Nanosecond)
		w.evicted(1, true, 1)
		time.Sleep(24 * time.Hour)
		w.evicted(1, true, 1)
	})
}

// The time counts from when the peer fell asleep.
func TestEvictAfterPark(t *testing.T) {
	playEvict(t, func(w *world) {
		w.add(1)
		time.Sleep(evictAfter - time.Second)
		w.connect(1)
		time.Sleep(evictAfter)
		w.evicted(1, false, 0)
		time.Sleep(threshold - time.Second)
		w.evicted(1, false, 0)
		time.Sleep(time.Second)
		w.evicted(1, true, 1)
	})
}

// Open puts the peer back before its packets are sent, even if the connector
// thinks that it can be reached at any time.
func TestEvictedPeerIsPutBackFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{TB: t, detector: newFakeDetector(), connector: newFakeConnector(t)}
		answers := newAnswers(w)
		w.connector.open = answers.open
		var err error
		w.Manager, err = New(Options{
			Detector: w.detector, Connector: earlyConnector{w.connector, true}, EvictAfter: evictAfter,
		})
		w.ok(err)
		defer w.Close()
		w.add(1)
		time.Sleep(evictAfter)
		w.evicted(1, true, 1)

		w.send(detect.Egress, 1)
		w.send(detect.Egress, 1)
		time.Sleep(time.Second)
		w.is(1, Connecting)
		if p := w.detector.peer(address(1)); p.waiting != 2 || p.activity.TxPackets != 0 {
			t.Errorf("before Open has returned %d packets wait, %d were sent", p.waiting, p.activity.TxPackets)
		}
		answers.give(w, nil)
		w.is(1, Connected)
		s := w.status(1)
		if s.Evicted || s.Activity.Replayed != 2 || s.Activity.Dropped != 0 {
			t.Errorf("evicted: %t; %d packets replayed, %d dropped", s.Evicted, s.Activity.Replayed, s.Activity.Dropped)
		}
		w.ok(w.DeactivatePeer(key(1)))
		time.Sleep(evictAfter - 1)
		w.evicted(1, false, 1)
		time.Sleep(time.Nanosecond)
		w.evicted(1, true, 2)
	})
}

// An evicted peer that cannot be put back stays away, and its packets are held
// again when it has been left alone long enough.
func TestEvictedPeerIsNotPutBack(t *testing.T) {
	playEvict(t, func(w *world) {
		w.connector.open = refuse
		w.add(1)
		time.Sleep(evictAfter)
		w.evicted(1, true, 1)
		w.send(detect.Egress, 1)
		if s := w.backsOff(1, 1); s.Activity.Dropped != 1 {
			w.Errorf("%d packets dropped, want 1", s.Activity.Dropped)
		}
		w.sleepBackOff(1)
		time.Sleep(evictAfter)
		w.evicted(1, true, 1)
	})
}

// Bug 2: removing the peer on activity flushed the staged first packet. A packet
// that has just passed is WireGuard's, so the peer stays: its event is on the way.
func TestBug02PacketBeforeEvict(t *testing.T) {
	playEvict(t, func(w *world) {
		w.add(1)
		synctest.Wait()
		// The packet passes when the time is up, and before the gate holds; its
		// event comes after all that.
		w.detector.beforeArm = func(id detect.ID) {
			_ = w.detector.with(id, func(p *fakePeer) {
				if p.gate == gateArmed && p.activity.TxPackets == 0 {
					p.packet(detect.Egress, time.Now())
				}
			})
		}
		w.ok(w.UpdatePeer(peerOf(1))) // which sets no gate, but the manager knows the hook
		time.Sleep(evictAfter)
		w.evicted(1, false, 0)
		id, _ := w.detector.find(address(1))
		w.detector.events <- detect.Event{ID: id, Time: time.Now()}
		w.is(1, Connected)
		w.called("evict", 1, 0)
	})
}

// A packet that comes when the gate holds already waits for the peer to be
// opened again, wherever the Evict is by then.
func TestPacketWhileEvicting(t *testing.T) {
	for name, tc := range map[string]struct {
		answer error
		again  time.Duration
	}{
		"gone":    {nil, 0},
		"not yet": {nil, time.Minute},
		"failed":  {errRefused, 0},
	} {
		t.Run(name, func(t *testing.T) {
			playEvict(t, func(w *world) {
				answers := newAnswers(w)
				w.connector.evict = func(context.Context, Key) (again time.Time, err error) {
					if tc.again != 0 {
						again = time.Now().Add(tc.again)
					}
					return again, <-answers
				}
				w.add(1)
				time.Sleep(evictAfter)
				w.called("evict", 1, 1)
				w.send(detect.Egress, 1)
				time.Sleep(time.Second)
				w.is(1, Connecting)
				w.opened(1, 0)
				answers.give(w, tc.answer)
				w.is(1, Connected)
				w.opened(1, 1)
				s := w.status(1)
				if s.Evicted || s.Activity.Replayed != 1 || s.LastError != nil {
					t.Errorf("evicted: %t; %d replayed; last error %v", s.Evicted, s.Activity.Replayed, s.LastError)
				}
				w.called("evict", 1, 1)
			})
		})
	}
}

// A peer that wakes while its Evict waits for its turn has never been away.
func TestWakesBeforeItsEvict(t *testing.T) {
	play(t, Options{EvictAfter: evictAfter, MaxOpens: 1}, func(w *world) {
		answers := newAnswers(w)
		w.connector.evict = func(context.Context, Key) (time.Time, error) { return time.Time{}, <-answers }
		w.add(1)
		time.Sleep(time.Second)
		w.add(2)
		time.Sleep(evictAfter)
		w.called("evict", 1, 1)
		w.called("evict", 2, 0)
		w.connect(2)
		answers.give(w, nil)
		w.called("evict", 2, 0)
		if w.status(2).Evicted {
			t.Error("a connected peer is evicted")
		}
		w.evicted(1, true, 1)
	})
}

// When the connector says not yet, it is asked again at the time that it says, and
// not before, whatever else happens to the peer; the gate passes until then.
func TestEvictAgain(t *testing.T) {
	playEvict(t, func(w *world) {
		first := true
		w.connector.evict = func(context.Context, Key) (again time.Time, err error) {
			if first {
				first = false
				again = time.Now().Add(time.Minute)
			}
			return again, nil
		}
		w.add(1)
		time.Sleep(evictAfter)
		w.evicted(1, false, 1)
		time.Sleep(time.Second)
		w.ok(w.UpdatePeer(memberOf(1, "a")))
		w.ok(w.SetGroups(nil))
		w.ok(w.SetOptions(Options{EvictAfter: evictAfter, InactivityThreshold: time.Hour}))
		time.Sleep(time.Minute - time.Second - 1)
		w.evicted(1, false, 1)
		time.Sleep(time.Nanosecond)
		w.evicted(1, true, 2)
	})
}

// A time that has passed is not asked for in a loop.
func TestEvictAgainInThePast(t *testing.T) {
	playEvict(t, func(w *world) {
		w.connector.evict = func(context.Context, Key) (time.Time, error) { return time.Now().Add(-time.Hour), nil }
		w.add(1)
		time.Sleep(evictAfter)
		time.Sleep(time.Minute - 1)
		w.evicted(1, false, 60)
	})
}

// An Evict that is refused leaves the peer as it was, and is tried again.
func TestEvictFails(t *testing.T) {
	playEvict(t, func(w *world) {
		fails := true
		w.connector.evict = func(context.Context, Key) (again time.Time, err error) {
			if fails {
				fails = false
				return again, errRefused
			}
			return again, nil
		}
		w.add(1)
		time.Sleep(evictAfter)
		w.evicted(1, false, 1)
		w.fails(w.status(1).LastError, errRefused)
		time.Sleep(evictAfter - 1)
		w.evicted(1, false, 1)
		time.Sleep(time.Nanosecond)
		w.evicted(1, true, 2)
		w.ok(w.status(1).LastError)
	})
}

// An Evict ends early when the peer is needed: its Open waits for that. It has
// not failed.
func TestNeededWhileEvicting(t *testing.T) {
	playEvict(t, func(w *world) {
		w.connector.evict = func(ctx context.Context, _ Key) (time.Time, error) {
			<-ctx.Done()
			return time.Time{}, ctx.Err()
		}
		answers := newAnswers(w)
		w.connector.open = answers.open
		w.add(1)
		time.Sleep(evictAfter)
		w.called("evict", 1, 1)
		w.send(detect.Egress, 1)
		w.opened(1, 1)
		s := w.status(1)
		w.ok(s.LastError)
		if s.Evicted {
			t.Error("it is evicted")
		}
		answers.give(w, nil)
		w.is(1, Connected)
	})
}

// Nobody knows of an Evict that hangs whether the peer is there: it is held until
// the call has returned.
func TestEvictHangs(t *testing.T) {
	playEvict(t, func(w *world) {
		answers := newAnswers(w)
		w.connector.evict = func(context.Context, Key) (time.Time, error) { return time.Time{}, <-answers }
		w.add(1)
		time.Sleep(evictAfter + openTimeout)
		w.evicted(1, true, 1)
		w.fails(w.status(1).LastError, ErrTimeout)
		w.send(detect.Egress, 1)
		time.Sleep(time.Hour)
		w.is(1, Connecting)
		w.opened(1, 0)
		answers.give(w, nil)
		w.is(1, Connected)
	})
}

// One that gives up in time has failed.
func TestEvictTakesTooLong(t *testing.T) {
	playEvict(t, func(w *world) {
		w.connector.evict = func(ctx context.Context, _ Key) (time.Time, error) {
			<-ctx.Done()
			return time.Time{}, ctx.Err()
		}
		w.add(1)
		time.Sleep(evictAfter + openTimeout)
		w.evicted(1, false, 1)
		w.fails(w.status(1).LastError, ErrTimeout)
	})
}

// A peer is closed before it is evicted, however long that takes.
func TestCloseBeforeEvict(t *testing.T) {
	play(t, Options{EvictAfter: evictAfter, MaxOpens: 1, OpenTimeout: 2 * evictAfter}, func(w *world) {
		answers := newAnswers(w)
		w.connector.close = answers.deafClose
		w.addConnected(1)
		w.addConnected(2)
		w.ok(w.DeactivatePeer(key(1)))
		w.ok(w.DeactivatePeer(key(2)))
		time.Sleep(evictAfter)
		answers.give(w, nil) // closing peer 1
		w.closed(2, 1)
		w.called("evict", 2, 0)
		answers.give(w, nil)
		w.evicted(1, true, 1)
		time.Sleep(evictAfter)
		w.evicted(2, true, 1)
	})
}

// What else can happen to a peer happens to one that is evicted, too, after its
// Evict has returned.
func TestWhileEvicting(t *testing.T) {
	for name, tc := range map[string]struct {
		do     func(*world)
		opened int
	}{
		"exclude":  {func(w *world) { w.exclude(1) }, 1},
		"activate": {func(w *world) { w.ok(w.ActivatePeer(key(1))) }, 1},
		"report":   {func(w *world) { w.ok(w.ReportConnected(key(1))) }, 1},
		"group": {func(w *world) {
			w.ok(w.UpdatePeer(memberOf(1, "a")))
			w.ok(w.AddActivePeers(memberOf(2, "a")))
		}, 1},
		"remove": {func(w *world) { w.ok(w.RemovePeer(key(1))); w.add(1) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			playEvict(t, func(w *world) {
				answers := newAnswers(w)
				w.connector.evict = func(context.Context, Key) (time.Time, error) { return time.Time{}, <-answers }
				w.add(1)
				time.Sleep(evictAfter)
				w.called("evict", 1, 1)
				tc.do(w)
				w.opened(1, 0)
				answers.give(w, nil)
				w.opened(1, tc.opened)
				if tc.opened == 0 {
					w.evicted(1, false, 1)
				} else {
					w.is(1, Connected)
				}
			})
		})
	}
}

// Closing the manager does not wait for an Evict, nor begins one.
func TestCloseWhileEvicting(t *testing.T) {
	playEvict(t, func(w *world) {
		answers := newAnswers(w)
		w.connector.evict = func(context.Context, Key) (time.Time, error) { return time.Time{}, <-answers }
		w.add(1)
		time.Sleep(time.Second)
		w.add(2)
		time.Sleep(evictAfter - time.Second)
		w.called("evict", 1, 1)
		w.closesWithin(time.Second)
		time.Sleep(time.Hour)
		w.called("evict", 2, 0)
	})
}

// Eviction takes a connector that can do it, and time.
func TestEvictIsRefused(t *testing.T) {
	options := Options{Detector: newFakeDetector(), Connector: nullConnector{}, EvictAfter: evictAfter}
	if _, err := New(options); err == nil || !strings.Contains(err.Error(), "EvictAfter") ||
		!strings.Contains(err.Error(), "EvictingConnector") {
		t.Errorf("EvictAfter without an EvictingConnector: %v", err)
	}
	options.Connector = newFakeConnector(t)
	for _, low := range []time.Duration{-1, 1, MinEvictAfter - 1} {
		options.EvictAfter = low
		if _, err := New(options); err == nil || !strings.Contains(err.Error(), MinEvictAfter.String()) {
			t.Errorf("EvictAfter %s: %v", low, err)
		}
	}
}
