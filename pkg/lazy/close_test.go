// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"context"
	"testing"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

// closesWithin fails the test if closing the manager takes longer.
func (w *world) closesWithin(most time.Duration) {
	w.Helper()
	start := time.Now()
	w.ok(w.Manager.Close())
	if took := time.Since(start); took > most {
		w.Errorf("Close took %s, want at most %s", took, most)
	}
}

// Bug 21: shutdown with dormant peers crashed. It leaves all peers as they
// are, whatever they are doing.
func TestBug21CloseLeavesPeersAlone(t *testing.T) {
	play(t, Options{MaxOpens: 1, Wake: WakeHold}, func(w *world) {
		answers := newAnswers(w)
		w.connector.open = answers.open
		w.add(1, 2, 3, 4, 5)
		w.send(detect.Egress, 2)
		answers.give(w, errRefused) // so it backs off
		w.addConnected(6)
		w.exclude(5)
		answers.give(w, nil) // which is permanent now
		w.send(detect.Egress, 3)
		w.send(detect.Egress, 4) // which waits for peer 3
		for n, want := range map[byte]State{1: Idle, 2: Idle, 3: Connecting, 4: Connecting, 5: Connected, 6: Connected} {
			w.is(n, want)
		}
		arms, opens := w.detector.arms, len(w.connector.all("open"))
		w.closesWithin(0)
		w.closesWithin(0)
		time.Sleep(time.Hour)
		if len(w.connector.all("close")) != 0 || len(w.connector.all("open")) != opens {
			w.Error("the connector was called after the manager was closed")
		}
		if len(w.detector.removed) != 0 || w.detector.arms != arms {
			w.Error("the detector was called after the manager was closed")
		}
	})
}

func TestCloseEndsWhateverConnectorsDo(t *testing.T) {
	play(t, Options{}, func(w *world) {
		answers := newAnswers(w)
		w.connector.open, w.connector.close = answers.deafOpen, answers.deafClose
		w.add(1)
		w.addConnected(2)
		w.send(detect.Egress, 1)
		w.ok(w.DeactivatePeer(key(2)))
		w.opened(1, 1)
		w.closed(2, 1)
		w.closesWithin(time.Second)
	})
}

func TestCloseCancelsConnectors(t *testing.T) {
	play(t, Options{}, func(w *world) {
		ended := make(chan error, 2)
		wait := func(ctx context.Context) error {
			<-ctx.Done()
			ended <- ctx.Err()
			return ctx.Err()
		}
		w.connector.open = func(ctx context.Context, _ Key, _ Wake) error { return wait(ctx) }
		w.connector.close = func(ctx context.Context, _ Key) error { return wait(ctx) }
		w.add(1)
		w.addConnected(2)
		w.send(detect.Egress, 1)
		w.ok(w.DeactivatePeer(key(2)))
		w.closed(2, 1)
		w.closesWithin(0)
		w.fails(<-ended, context.Canceled)
		w.fails(<-ended, context.Canceled)
	})
}

// Close waits for a connector that tidies up quickly.
func TestCloseWaitsForConnectors(t *testing.T) {
	play(t, Options{}, func(w *world) {
		tidy := false
		w.connector.open = func(ctx context.Context, _ Key, _ Wake) error {
			<-ctx.Done()
			time.Sleep(100 * time.Millisecond)
			tidy = true
			return ctx.Err()
		}
		w.add(1)
		w.send(detect.Egress, 1)
		w.closesWithin(100 * time.Millisecond)
		if !tidy {
			w.Error("Close has not waited")
		}
	})
}

func TestCallsAfterClose(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.add(1)
		w.closesWithin(0)
		_, add := w.AddPeer(peerOf(2))
		_, exclude := w.SetExcluded([]Key{key(1)})
		_, one := w.Peer(key(1))
		_, all := w.Peers()
		_, subscribe := w.Subscribe()
		for name, err := range map[string]error{
			"AddPeer": add, "SetExcluded": exclude, "Peer": one, "Peers": all, "Subscribe": subscribe,
			"AddActivePeers": w.AddActivePeers(peerOf(2)),
			"UpdatePeer":     w.UpdatePeer(peerOf(1)),
			"RemovePeer":     w.RemovePeer(key(1)),
			"ActivatePeer":   w.ActivatePeer(key(1)),
			"DeactivatePeer": w.DeactivatePeer(key(1)),
		} {
			if err != ErrClosed {
				w.Errorf("%s after Close: %v", name, err)
			}
		}
		w.detector.send(detect.Egress, address(1)) // nobody listens, and nothing breaks
	})
}

// Calls that are under way when the manager is closed come back.
func TestCallsDuringClose(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.add(1)
		const callers = 20
		done := make(chan error, callers)
		for range callers {
			go func() {
				for {
					if err := w.ActivatePeer(key(1)); err != nil {
						done <- err
						return
					}
				}
			}()
		}
		w.closesWithin(time.Second)
		for range callers {
			w.fails(<-done, ErrClosed)
		}
	})
}
