// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"math"
	"testing"
	"time"
)

// takes returns how many tokens there are now.
func (b *bucket) takes(now time.Time, most int) int {
	n := 0
	for n < most && b.take(now) == 0 {
		n++
	}
	return n
}

func TestBucket(t *testing.T) {
	const second = time.Second
	now := time.Now()
	var b bucket
	if n := b.takes(now, 1000); n != 1000 {
		t.Errorf("%d tokens without a limit", n)
	}
	b.limit(4, 3)
	for _, step := range []struct {
		after  time.Duration
		tokens int
		wait   time.Duration
	}{
		{0, 3, second / 4}, // full at first
		{second/4 - 1, 0, 1},
		{1, 1, second / 4},
		{second / 8, 0, second / 8},
		{second / 2, 2, second / 8}, // what has come meanwhile, and a half
		{time.Hour, 3, second / 4},  // not more than full
	} {
		now = now.Add(step.after)
		if n := b.takes(now, 1000); n != step.tokens {
			t.Errorf("%d tokens after another %s, want %d", n, step.after, step.tokens)
		}
		if wait := b.take(now); wait != step.wait {
			t.Errorf("the next one in %s, want %s", wait, step.wait)
		}
	}
	b.limit(4, 3) // nothing new
	if n := b.takes(now, 1000); n != 0 {
		t.Errorf("%d tokens although the limit is what it was", n)
	}
	b.limit(4, 2)
	if n := b.takes(now, 1000); n != 2 {
		t.Errorf("%d tokens of a new limit, want 2", n)
	}
}

// Odd limits are limits, too.
func TestBucketOdd(t *testing.T) {
	now := time.Now()
	for _, tc := range []struct {
		perSecond float64
		size      int
		tokens    int // at once
		later     int // in an hour
	}{
		{math.Inf(1), 1, 1000, 1000},
		{math.MaxFloat64, 1, 1000, 1000},
		{math.SmallestNonzeroFloat64, 1, 1, 0},
		{1e-3, math.MaxInt, 1000, 1000},
		{1.0 / 3600, 1, 1, 1},
	} {
		var b bucket
		b.limit(tc.perSecond, tc.size)
		if n := b.takes(now, 1000); n != tc.tokens {
			t.Errorf("%g a second, %d at once: %d tokens, want %d", tc.perSecond, tc.size, n, tc.tokens)
		}
		if n := b.takes(now.Add(time.Hour), 1000); n != tc.later {
			t.Errorf("%g a second, %d at once: %d tokens an hour later, want %d", tc.perSecond, tc.size, n, tc.later)
		}
	}
}
