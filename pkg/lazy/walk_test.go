// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"context"
	"flag"
	"sync"
	"testing"
	"testing/synctest"

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
			w := newWalk(rt)
			defer w.end()
			defer func() { failure = recover() }()
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
		return w.call(ctx, peer[0])
	}
	w.connector.close = func(_ context.Context, peer Key) error {
		return w.call(context.Background(), peer[0])
	}
	options := Options{
		Detector: w.detector, Connector: w.connector,
		InactivityThreshold: threshold, OpenTimeout: openTimeout, MaxOpens: 2,
	}
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
func (w *walk) call(ctx context.Context, n byte) error {
	w.mu.Lock()
	manners, answer := w.manners[n], make(chan error, 1)
	if manners == obeys || manners == deaf {
		w.waiting[n] = answer
	}
	w.mu.Unlock()
	switch manners {
	case succeeds:
		return nil
	case fails:
		return errRefused
	case deaf:
		return <-answer
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *walk) raceBefore(id detect.ID) { w.race(id, func(r race) bool { return r.before }) }

func (w *walk) raceAfter(id detect.ID) {
	w.race(id, func(r race) bool { return r.after })
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.races, w.number(id))
}

func (w *walk) race(id detect.ID, runs func(race) bool) {
	w.mu.Lock()
	n := w.number(id)
	r := w.races[n]
	w.mu.Unlock()
	if runs(r) {
		w.detector.send(r.direction, address(n))
	}
}

// number is that of the peer that the detector knows by this ID.
func (w *walk) number(id detect.ID) byte {
	var n byte
	_ = w.detector.with(id, func(p *fakePeer) { n = p.prefixes[0].Addr().As4()[3] })
	return n
}
