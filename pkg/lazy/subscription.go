// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"context"
	"iter"
	"sync"
)

// maxBacklog is how many changes a subscription keeps one by one.
const maxBacklog = 4096

// Subscription follows the changes of a manager's peers, for one reader. A slow
// one delays nobody: once many changes wait, those of one peer are put together,
// so that it misses states in between but never the last.
type Subscription struct {
	ready chan struct{} // has an element when there is something to read
	close func()

	mu      sync.Mutex // guards what follows
	backlog []Change
	taken   int         // changes that have left the backlog
	newest  map[Key]int // how many changes came before a peer's last; nil until many wait
	ended   bool
}

// Next returns the next change, and waits for it. Errors: ErrClosed after the
// last change of a closed manager or subscription, and that of ctx.
func (s *Subscription) Next(ctx context.Context) (Change, error) {
	for {
		s.mu.Lock()
		if len(s.backlog) > 0 {
			change := s.backlog[0]
			s.backlog = s.backlog[1:]
			s.taken++
			if len(s.backlog) == 0 { // and nothing keeps the memory of a long one
				s.backlog, s.newest = nil, nil
			}
			s.mu.Unlock()
			return change, nil
		}
		ended := s.ended
		s.mu.Unlock()
		if ended {
			return Change{}, ErrClosed
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
			return Change{}, ctx.Err()
		}
	}
}

// All yields the changes one by one, until ctx is done, or the manager or the
// subscription closed.
func (s *Subscription) All(ctx context.Context) iter.Seq[Change] {
	return func(yield func(Change) bool) {
		for {
			change, err := s.Next(ctx)
			if err != nil || !yield(change) {
				return
			}
		}
	}
}

// Close ends the subscription, from any goroutine. Closing again does nothing.
func (s *Subscription) Close() { s.close() }

func (s *Subscription) add(c Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	if len(s.backlog) >= maxBacklog {
		if s.newest == nil {
			s.newest = make(map[Key]int)
			for i, old := range s.backlog {
				s.newest[old.Key] = s.taken + i
			}
		}
		if n, ok := s.newest[c.Key]; ok && n >= s.taken {
			last := &s.backlog[n-s.taken]
			c.From = last.From
			*last = c
			return
		}
	}
	if s.newest != nil {
		s.newest[c.Key] = s.taken + len(s.backlog)
	}
	s.backlog = append(s.backlog, c)
	s.wake()
}

func (s *Subscription) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.wake()
}

// wake lets a reader look; the caller holds s.mu.
func (s *Subscription) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}
