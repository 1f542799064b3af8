// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"context"
	"flag"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

// TestRandomWalk does what comes to its mind to a manager and to a model, and
// compares them after each step.
func TestRandomWalk(t *testing.T) {
	if steps := flag.Lookup("rapid.steps"); steps.Value.String() == steps.DefValue {
		if err := steps.Value.Set("200"); err != nil {
			t.Fatal(err)
		}
	}
	steps := 0
	rapid.Check(t, func(rt *rapid.T) {
		// A panic must leave the bubble by this door: it is how rapid fails.
		var failure any
		synctest.Test(t, func(*testing.T) {
			defer func() { failure = recover() }()
			w := newWalk(rt)
			defer w.end()
			rt.Repeat(w.actions())
			steps += w.steps
		})
		if failure != nil {
			panic(failure)
		}
	})
	t.Logf("%d steps", steps)
	if steps < 10000 && !testing.Short() {
		t.Errorf("only %d steps, want 10,000", steps)
	}
}

// numbers are the peers of a walk.
var numbers = []byte{1, 2, 3, 4, 5, 6}

// walk is a manager and the model of it.
type walk struct {
	*rapid.T
	manager   *Manager
	detector  *fakeDetector
	connector *fakeConnector
	model     *model
	steps     int
	changes   *Subscription
	states    map[Key]State // by the changes

	mu      sync.Mutex // guards what follows
	manners map[byte]manners
	races   map[byte]race
	racing  race
	armed   []byte
	waiting map[byte]chan error // answers to the calls that wait
}

func newWalk(t *rapid.T) *walk {
	w := &walk{
		T: t, detector: newFakeDetector(), connector: newFakeConnector(t),
		states:  make(map[Key]State),
		manners: make(map[byte]manners),
		races:   make(map[byte]race),
		waiting: make(map[byte]chan error),
	}
	w.detector.beforeArm = w.raceBefore
	w.detector.afterArm = w.raceAfter
	w.connector.open = func(ctx context.Context, peer Key, _ Wake) error {
		_, err := w.call(ctx, peer[0])
		return err
	}
	w.connector.close = func(ctx context.Context, peer Key) error {
		_, err := w.call(ctx, peer[0])
		return err
	}
	w.connector.evict = func(ctx context.Context, peer Key) (time.Time, error) {
		return w.call(ctx, peer[0])
	}
	options := w.options()
	options.Detector, options.Connector = w.detector, w.connector
	w.model = newModel(options)
	var err error
	if w.manager, err = New(options); err != nil {
		t.Fatal(err)
	}
	if w.changes, err = w.manager.Subscribe(); err != nil {
		t.Fatal(err)
	}
	return w
}

// end leaves nothing behind.
func (w *walk) end() {
	w.mu.Lock()
	for n, answer := range w.waiting {
		close(answer)
		delete(w.waiting, n)
	}
	w.manners = nil // all succeed
	w.mu.Unlock()
	_ = w.manager.Close()
}

// call is a connector call for a peer.
func (w *walk) call(ctx context.Context, n byte) (again time.Time, err error) {
	w.mu.Lock()
	manners, answer := w.manners[n], make(chan error, 1)
	if manners == obeys || manners == deaf {
		w.waiting[n] = answer
	}
	w.mu.Unlock()
	switch manners {
	case succeeds:
		return again, nil
	case notYet:
		return time.Now().Add(notYetAgain), nil
	case fails:
		return again, errRefused
	case deaf:
		return again, <-answer
	}
	select {
	case err = <-answer:
	case <-ctx.Done():
		time.Sleep(tidyUp(n))
		err = ctx.Err()
	}
	return again, err
}

// raceBefore and raceAfter let packets pass while a peer is armed that was open.
func (w *walk) raceBefore(id detect.ID) {
	n := w.number(id)
	w.mu.Lock()
	w.armed = append(w.armed, n)
	w.racing = race{}
	if w.detector.peer(address(n)).gate == gateOpen {
		w.racing = w.races[n]
		delete(w.races, n)
	}
	r := w.racing
	w.mu.Unlock()
	if r.before {
		w.detector.send(r.direction, address(n))
	}
}

func (w *walk) raceAfter(id detect.ID) {
	w.mu.Lock()
	r := w.racing
	w.mu.Unlock()
	if r.after {
		w.detector.send(r.direction, address(w.number(id)))
	}
}

// number is that of the peer that the detector knows by this ID.
func (w *walk) number(id detect.ID) byte {
	var n byte
	_ = w.detector.with(id, func(p *fakePeer) { n = p.prefixes[0].Addr().As4()[3] })
	return n
}
