// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

const openTimeout = 20 * time.Second

// hang makes the connector open peer 1 for as long as it pleases, whatever
// it is told, and wakes the peer. Others open at once.
func (w *world) hang() answers {
	w.Helper()
	answers := newAnswers(w)
	w.connector.open = func(ctx context.Context, peer Key, wake Wake) error {
		if peer == key(1) {
			return answers.deafOpen(ctx, peer, wake)
		}
		return nil
	}
	w.add(1)
	w.send(detect.Egress, 1)
	return answers
}

// hangTooLong is a hang until the Open's time is up.
func (w *world) hangTooLong() answers {
	w.Helper()
	answers := w.hang()
	time.Sleep(openTimeout)
	w.fails(w.backsOff(1, 1).LastError, ErrTimeout)
	return answers
}

func TestOpenTakesTooLong(t *testing.T) {
	for name, open := range map[string]func(answers) func(context.Context, Key, Wake) error{
		"obeys": func(a answers) func(context.Context, Key, Wake) error { return a.open },
		"deaf":  func(a answers) func(context.Context, Key, Wake) error { return a.deafOpen },
	} {
		t.Run(name, func(t *testing.T) {
			play(t, Options{OpenTimeout: openTimeout, Wake: WakeHold}, func(w *world) {
				w.connector.open = open(newAnswers(w))
				w.add(1)
				w.send(detect.Egress, 1)
				time.Sleep(openTimeout - 1)
				w.is(1, Connecting)
				time.Sleep(time.Nanosecond)
				s := w.backsOff(1, 1)
				w.fails(s.LastError, ErrTimeout)
				if s.Activity.Dropped != 1 {
					w.Errorf("%d packets dropped, want 1", s.Activity.Dropped)
				}
			})
		})
	}
}

// Whether the manager or the connector notices first that the time is up,
// the peer says the same.
func TestTimeoutIsTimeout(t *testing.T) {
	play(t, Options{OpenTimeout: openTimeout}, func(w *world) {
		w.connector.open = newAnswers(w).open
		for n := range byte(30) {
			w.add(n)
			w.send(detect.Egress, n)
			w.ok(w.do(func() error { // both wait for the manager to look
				time.Sleep(openTimeout)
				synctest.Wait()
				return nil
			}))
			w.fails(w.backsOff(n, 1).LastError, ErrTimeout)
		}
	})
}

// A connector may have shorter timeouts of its own: what it says then is
// worth more than that it took too long, which it did not.
func TestConnectorsOwnTimeout(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.connector.open = func(ctx context.Context, _ Key, _ Wake) error {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			<-ctx.Done()
			return fmt.Errorf("resolve name: %w", ctx.Err())
		}
		w.add(1)
		w.send(detect.Egress, 1)
		time.Sleep(time.Second)
		err := w.backsOff(1, 1).LastError
		if errors.Is(err, ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
			w.Errorf("last error is %v, want the connector's", err)
		}
	})
}

// While an Open is overdue there is no second call for that peer.
func TestOverdueOpenFails(t *testing.T) {
	play(t, Options{OpenTimeout: openTimeout}, func(w *world) {
		answers := w.hangTooLong()
		w.sleepBackOff(1)
		w.send(detect.Egress, 1)
		w.is(1, Connecting)
		time.Sleep(time.Hour)
		w.is(1, Connecting)
		w.opened(1, 1)

		answers.give(w, errRefused) // the first one's, which counted as failed before
		w.opened(1, 2)
		w.is(1, Connecting)
		answers.give(w, nil)
		w.is(1, Connected)
		w.opened(1, 2)
	})
}

// The Open that was overdue serves whoever waits for the peer by then.
func TestOverdueOpenSucceedsInTime(t *testing.T) {
	play(t, Options{OpenTimeout: openTimeout}, func(w *world) {
		answers := w.hangTooLong()
		w.ok(w.ActivatePeer(key(1)))
		time.Sleep(time.Second)
		w.is(1, Connecting)
		answers.give(w, nil)
		w.is(1, Connected)
		w.opened(1, 1)
		w.closed(1, 0)
		s := w.status(1)
		if s.LastWake.Reason != ReasonRequest || s.LastWake.Took != time.Second || s.LastError != nil {
			w.Errorf("woke by %s in %s, last error %v", s.LastWake.Reason, s.LastWake.Took, s.LastError)
		}
		w.parksAfter(1, threshold)
	})
}

// A peer that nobody waits for any longer is closed again.
func TestOverdueOpenSucceedsTooLate(t *testing.T) {
	for name, wait := range map[string]func(*world){
		"backing off": func(*world) {},
		"armed":       func(w *world) { w.sleepBackOff(1) },
	} {
		t.Run(name, func(t *testing.T) {
			play(t, Options{OpenTimeout: openTimeout}, func(w *world) {
				answers := w.hangTooLong()
				wait(w)
				answers.give(w, nil)
				w.is(1, Idle)
				w.closed(1, 1)
				if g := w.detector.peer(address(1)).gate; g != gateArmed {
					w.Errorf("gate is %b", g)
				}
				if s := w.status(1); !s.RetryAt.IsZero() || s.Wakes != 0 {
					w.Errorf("%d wakes, backs off until %s", s.Wakes, s.RetryAt)
				}
				time.Sleep(time.Hour)
				w.opened(1, 1)
				w.send(detect.Egress, 1)
				w.opened(1, 2)
			})
		})
	}
}

// Unless there is a packet while it is being closed: then it has woken.
func TestOverdueOpenSucceedsJustInTime(t *testing.T) {
	play(t, Options{OpenTimeout: openTimeout}, func(w *world) {
		answers := w.hangTooLong()
		w.detector.beforeArm = w.once(detect.Egress, 1)
		w.is(1, Idle)
		answers.give(w, nil)
		w.is(1, Connected)
		w.closed(1, 0)
		if s := w.status(1); s.LastError != nil || s.Wakes != 1 || s.LastWake.Took != openTimeout {
			w.Errorf("%d wakes, the last in %s, last error %v", s.Wakes, s.LastWake.Took, s.LastError)
		}
		w.parksAfter(1, threshold)
	})
}

// One that somebody talks to again is kept: what its packet raised may come
// after the end of the Open.
func TestOverdueOpenSucceedsAfterPacket(t *testing.T) {
	for name, wait := range map[string]func(*world){
		"backing off": func(*world) { time.Sleep(time.Nanosecond) },
		"armed":       func(w *world) { w.sleepBackOff(1); time.Sleep(time.Nanosecond) },
	} {
		t.Run(name, func(t *testing.T) {
			for range 20 { // either may be heard of first
				play(t, Options{OpenTimeout: openTimeout}, func(w *world) {
					answers := w.hangTooLong()
					wait(w)
					w.ok(w.do(func() error {
						w.detector.send(detect.Egress, address(1))
						answers.give(w, nil)
						return nil
					}))
					w.is(1, Connected)
					w.closed(1, 0)
				})
			}
		})
	}
}

// A permanent peer is welcome at any time.
func TestOverdueOpenOfPermanentPeer(t *testing.T) {
	play(t, Options{OpenTimeout: openTimeout}, func(w *world) {
		answers := w.hang()
		w.exclude(1)
		time.Sleep(openTimeout)
		w.backsOff(1, 1)
		answers.give(w, nil)
		w.is(1, Connected)
		time.Sleep(time.Hour)
		w.is(1, Connected)
		w.opened(1, 1)
		w.closed(1, 0)
		if s := w.status(1); s.LastError != nil || s.Wakes != 1 {
			w.Errorf("%d wakes, last error %v", s.Wakes, s.LastError)
		}
	})
}

// An Open that is given up makes room for those that wait.
func TestOverdueOpenFreesItsSlot(t *testing.T) {
	play(t, Options{OpenTimeout: openTimeout, MaxOpens: 1}, func(w *world) {
		w.hang()
		w.add(2)
		w.send(detect.Egress, 2)
		time.Sleep(openTimeout - 1)
		w.is(2, Connecting)
		w.opened(2, 0)
		time.Sleep(time.Nanosecond)
		w.is(2, Connected)
	})
}

// Closing may hang as well: then that peer waits, and nobody else.
func TestCloseHangs(t *testing.T) {
	play(t, Options{OpenTimeout: openTimeout, MaxOpens: 1}, func(w *world) {
		answers := newAnswers(w)
		w.connector.close = answers.deafClose
		w.add(1, 2)
		w.connect(1)
		w.parksAfter(1, threshold)
		w.send(detect.Egress, 1)
		w.connect(2)
		time.Sleep(time.Hour)
		w.is(1, Connecting)
		w.opened(1, 1)
		answers.give(w, nil) // closing peer 1
		w.is(1, Connected)
		w.opened(1, 2)
	})
}

// The context of a Close has an end, too.
func TestCloseTakesTooLong(t *testing.T) {
	play(t, Options{OpenTimeout: openTimeout}, func(w *world) {
		w.connector.close = func(ctx context.Context, _ Key) error {
			<-ctx.Done()
			return ctx.Err()
		}
		w.addConnected(1)
		w.parksAfter(1, threshold)
		time.Sleep(openTimeout)
		s := w.status(1)
		w.fails(s.LastError, ErrTimeout)
		if s.State != Idle || !s.RetryAt.IsZero() {
			w.Errorf("%s, backs off until %s", s.State, s.RetryAt)
		}
	})
}
