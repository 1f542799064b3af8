// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

// next fails the test if the next change is another than this one, as far as
// peer, states, reason and error go.
func (w *world) next(s *Subscription, want Change) Change {
	w.Helper()
	synctest.Wait()
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // what has happened can be read without waiting
	got, err := s.Next(ctx)
	if err != nil {
		w.Fatalf("there is no next change: %v; want peer %d from %q to %q", err, want.Key[0], want.From, want.To)
	}
	if got.Key != want.Key || got.From != want.From || got.To != want.To ||
		got.Wake.Reason != want.Wake.Reason || got.Err != want.Err {
		w.Fatalf("next change is %s, want %s", text(got), text(want))
	}
	return got
}

// nothingNext fails the test if there is a change to read.
func (w *world) nothingNext(s *Subscription) {
	w.Helper()
	synctest.Wait()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if got, err := s.Next(ctx); err != context.Canceled {
		w.Errorf("next is %s, error %v; want nothing", text(got), err)
	}
}

func text(c Change) string {
	s := "peer " + string('0'+rune(c.Key[0])) + " from " + c.From.String() + " to " + c.To.String()
	if c.Wake.Reason != 0 {
		s += " by " + c.Wake.Reason.String()
	}
	if c.Err != nil {
		s += ": " + c.Err.Error()
	}
	return s
}

func (w *world) subscribe() *Subscription {
	w.Helper()
	s, err := w.Subscribe()
	w.ok(err)
	w.Cleanup(s.Close)
	return s
}

// Whoever keeps up sees every step of every peer, in order.
func TestChanges(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.connector.open = func(_ context.Context, peer Key, _ Wake) error {
			time.Sleep(time.Second)
			if peer == key(3) {
				return errRefused
			}
			return nil
		}
		before := w.subscribe()
		w.add(1)
		s := w.subscribe()
		w.nothingNext(s)
		w.next(before, Change{Key: key(1), To: Idle})

		egress, request, start := Wake{Reason: ReasonEgress}, Wake{Reason: ReasonRequest}, Wake{Reason: ReasonStart}
		w.send(detect.Egress, 1)
		w.add(3)
		w.addConnected(2)
		w.ok(w.ActivatePeer(key(3)))
		for _, sub := range []*Subscription{s, before} {
			w.next(sub, Change{Key: key(1), From: Idle, To: Connecting, Wake: egress})
			w.next(sub, Change{Key: key(3), To: Idle})
			w.next(sub, Change{Key: key(2), To: Connected, Wake: start})
			w.next(sub, Change{Key: key(3), From: Idle, To: Connecting, Wake: request})
			w.nothingNext(sub)
		}
		time.Sleep(time.Second / 2)
		w.exclude(2)
		w.nothingNext(s)
		time.Sleep(time.Second / 2)
		synctest.Wait()
		first, err := s.Next(w.Context())
		w.ok(err)
		second, err := s.Next(w.Context())
		w.ok(err)
		if first.Key != key(1) { // both happen at the same time
			first, second = second, first
		}
		if first.To != Connected || first.Wake.Took != time.Second || !first.Time.Equal(time.Now()) {
			w.Errorf("%s, which took %s", text(first), first.Wake.Took)
		}
		if second.To != Idle || second.Err != errRefused || second.Wake.Reason != 0 {
			w.Errorf("failure is told as %s", text(second))
		}

		time.Sleep(threshold)
		w.next(s, Change{Key: key(1), From: Connected, To: Idle})
		w.exclude()
		w.nothingNext(s)
		w.ok(w.RemovePeer(key(2)))
		w.next(s, Change{Key: key(2), From: Connected})
		w.nothingNext(s)
	})
}

func TestNextWaits(t *testing.T) {
	play(t, Options{}, func(w *world) {
		s := w.subscribe()
		go func() {
			time.Sleep(time.Minute)
			_, _ = w.AddPeer(peerOf(1))
		}()
		start := time.Now()
		c, err := s.Next(w.Context())
		w.ok(err)
		if c.Key != key(1) || time.Since(start) != time.Minute {
			w.Errorf("%s after %s", text(c), time.Since(start))
		}

		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		_, err = s.Next(ctx)
		w.fails(err, context.DeadlineExceeded)
	})
}

// What happened before the end can still be read after it.
func TestSubscriptionEnds(t *testing.T) {
	for name, end := range map[string]func(*world, *Subscription){
		"subscription": func(_ *world, s *Subscription) { s.Close(); s.Close() },
		"manager":      func(w *world, _ *Subscription) { w.ok(w.Manager.Close()) },
		"both":         func(w *world, s *Subscription) { w.ok(w.Manager.Close()); s.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			play(t, Options{}, func(w *world) {
				read, waiting := w.subscribe(), w.subscribe()
				w.add(1)
				w.next(waiting, Change{Key: key(1), To: Idle})
				ended := make(chan error)
				go func() {
					_, err := waiting.Next(w.Context())
					ended <- err
				}()
				synctest.Wait()
				end(w, waiting)
				w.fails(<-ended, ErrClosed)

				end(w, read)
				_, _ = w.AddPeer(peerOf(2))
				w.next(read, Change{Key: key(1), To: Idle})
				for range 2 {
					_, err := read.Next(w.Context())
					w.fails(err, ErrClosed)
				}
			})
		})
	}
}

// pile makes more changes than a subscription keeps one by one, of the peers
// from 1 on, and leaves each of them connected.
func (w *world) pile(peers byte) {
	w.Helper()
	for range 3 * maxBacklog / int(peers) {
		for n := byte(1); n <= peers; n++ {
			w.ok(w.DeactivatePeer(key(n)))
			w.ok(w.ActivatePeer(key(n)))
		}
		synctest.Wait()
	}
}

// A slow reader never delays the manager. It misses states in between, and
// never the last of a peer.
func TestSlowReader(t *testing.T) {
	play(t, Options{}, func(w *world) {
		const peers = 20
		s, quick := w.subscribe(), w.subscribe()
		for n := byte(1); n <= peers; n++ {
			w.addConnected(n)
		}
		lost := 0
		go func() {
			states := make(map[Key]State)
			for {
				c, err := quick.Next(w.Context())
				if err != nil {
					return
				}
				if c.From != states[c.Key] {
					lost++
				}
				states[c.Key] = c.To
			}
		}()
		w.pile(peers)
		w.ok(w.RemovePeer(key(1)))
		w.ok(w.DeactivatePeer(key(2)))
		w.add(100)
		synctest.Wait()
		if lost != 0 {
			w.Errorf("a quick reader has missed %d changes", lost)
		}

		states := make(map[Key]State)
		var count int
		for ; count < maxBacklog; count++ { // those that are kept one by one
			c, err := s.Next(w.Context())
			w.ok(err)
			if c.From != states[c.Key] {
				w.Fatalf("change %d is %s, after %s", count, text(c), states[c.Key])
			}
			states[c.Key] = c.To
		}
		w.next(s, Change{Key: key(100), To: Idle})
		w.nothingNext(s)
		for n := byte(1); n <= peers; n++ {
			want := map[byte]State{1: 0, 2: Idle}
			state, ok := want[n]
			if !ok {
				state = Connected
			}
			if states[key(n)] != state {
				w.Errorf("the last that was told of peer %d is %q, want %q", n, states[key(n)], state)
			}
		}
		w.ok(w.ActivatePeer(key(2))) // and then it keeps up again
		w.next(s, Change{Key: key(2), From: Idle, To: Connecting, Wake: Wake{Reason: ReasonRequest}})
		w.next(s, Change{Key: key(2), From: Connecting, To: Connected, Wake: Wake{Reason: ReasonRequest}})
	})
}

// A reader that is never done, now slower and now quicker than the changes
// come, misses nothing that lasts, either.
func TestReaderThatLagsBehind(t *testing.T) {
	const peers = 3000 // so that some changes are read long before the next of their peer
	s := &Subscription{ready: make(chan struct{}, 1)}
	random := rand.New(rand.NewPCG(1, 2))
	told, states := make([]State, peers), make([]State, peers)
	number := func(k Key) int { return int(k[0])<<8 | int(k[1]) }
	read := func() {
		c, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n := number(c.Key); c.From != told[n] {
			t.Fatalf("peer %d from %q, after %q", n, c.From, told[n])
		}
		told[number(c.Key)] = c.To
	}
	longest := 0
	for i := range 200_000 {
		n := random.IntN(peers)
		from, to := states[n], State(random.IntN(4))
		states[n] = to
		s.add(Change{Key: Key{byte(n >> 8), byte(n)}, From: from, To: to})
		longest = max(longest, len(s.backlog))
		for range random.IntN(2 + i/20_000%3) {
			if len(s.backlog) > 0 {
				read()
			}
		}
	}
	for len(s.backlog) > 0 {
		read()
	}
	if !slices.Equal(told, states) {
		t.Error("the last that was told of some peers is wrong")
	}
	if longest <= maxBacklog || longest > maxBacklog+peers {
		t.Errorf("up to %d changes were kept, want up to %d", longest, maxBacklog+peers)
	}
}
