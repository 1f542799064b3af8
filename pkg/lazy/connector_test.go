// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeConnector is a connector made of functions. It notes its calls, and
// fails the test if two of them run for one peer at once.
type fakeConnector struct {
	t interface{ Errorf(string, ...any) }
	// What the calls do; nil succeeds at once. The manager knows of them from its
	// next method call on.
	open  func(ctx context.Context, peer Key, wake Wake) error
	close func(ctx context.Context, peer Key) error
	evict func(ctx context.Context, peer Key) (again time.Time, err error)

	mu      sync.Mutex // guards what follows
	calls   []noted
	running map[Key]bool
	opening int // Opens that run
	most    int // that ran at once
}

// noted is a connector call that has begun.
type noted struct {
	name string // "open", "close" or "evict"
	peer Key
	at   time.Time
	wake Wake // of an open
}

func newFakeConnector(t interface{ Errorf(string, ...any) }) *fakeConnector {
	return &fakeConnector{t: t, running: make(map[Key]bool)}
}

func (c *fakeConnector) Open(ctx context.Context, peer Key, wake Wake) error {
	defer c.begin(noted{"open", peer, time.Now(), wake})()
	c.mu.Lock()
	c.opening++
	c.most = max(c.most, c.opening)
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.opening--
		c.mu.Unlock()
	}()
	if c.open == nil {
		return nil
	}
	return c.open(ctx, peer, wake)
}

func (c *fakeConnector) Close(ctx context.Context, peer Key) error {
	defer c.begin(noted{"close", peer, time.Now(), Wake{}})()
	if c.close == nil {
		return nil
	}
	return c.close(ctx, peer)
}

func (c *fakeConnector) Evict(ctx context.Context, peer Key) (again time.Time, err error) {
	defer c.begin(noted{"evict", peer, time.Now(), Wake{}})()
	if c.evict == nil {
		return again, nil
	}
	return c.evict(ctx, peer)
}

// begin notes a call, and returns what notes its end.
func (c *fakeConnector) begin(this noted) (end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running[this.peer] {
		c.t.Errorf("%s of peer %d while another call runs for it", this.name, this.peer[0])
	}
	c.running[this.peer] = true
	c.calls = append(c.calls, this)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.running[this.peer] = false
	}
}

// all returns the calls of this name, for any peer, in order.
func (c *fakeConnector) all(name string) []noted {
	c.mu.Lock()
	defer c.mu.Unlock()
	var calls []noted
	for _, this := range c.calls {
		if this.name == name {
			calls = append(calls, this)
		}
	}
	return calls
}

// of returns the calls of this name for the peer, in order.
func (c *fakeConnector) of(name string, peer Key) []noted {
	return slices.DeleteFunc(c.all(name), func(this noted) bool { return this.peer != peer })
}

// count is how many calls of this name there were for the peer.
func (c *fakeConnector) count(name string, peer Key) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, this := range c.calls {
		if this.name == name && this.peer == peer {
			n++
		}
	}
	return n
}

// answers are the results of calls that wait for the test to send them. All
// that still wait at its end succeed.
type answers chan error

func newAnswers(t testing.TB) answers {
	a := make(answers)
	t.Cleanup(func() { close(a) })
	return a
}

// give ends a call that waits, and fails the test if there is none.
func (a answers) give(t testing.TB, err error) {
	t.Helper()
	synctest.Wait()
	select {
	case a <- err:
	default:
		t.Fatal("no call of the connector waits for an answer")
	}
	synctest.Wait()
}

// open waits for an answer, and no longer than it may.
func (a answers) open(ctx context.Context, _ Key, _ Wake) error {
	select {
	case err := <-a:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// deafOpen waits for an answer, whatever its context says.
func (a answers) deafOpen(context.Context, Key, Wake) error { return <-a }

// deafClose waits for an answer, whatever its context says.
func (a answers) deafClose(context.Context, Key) error { return <-a }
