// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"math"
	"time"
)

// bucket has tokens: it is full at first, and gets one after the other until it
// is full again.
type bucket struct {
	interval time.Duration // from one token to the next; 0: they never run out
	refill   time.Duration // from one token left to full
	full     time.Time     // when it is full again
}

// limit sets how many tokens come in a second, 0 for any number, and how many
// there are in a full bucket. If that is new the bucket is full.
func (b *bucket) limit(perSecond float64, size int) {
	var limited bucket
	if perSecond > 0 {
		limited.interval = nanoseconds(1e9 / perSecond)
		limited.refill = nanoseconds(float64(limited.interval) * float64(size-1))
	}
	if limited.interval != b.interval || limited.refill != b.refill {
		*b = limited
	}
}

// nanoseconds is the duration, or a century if it is longer.
func nanoseconds(ns float64) time.Duration {
	const century = 100 * 365 * 24 * time.Hour
	return time.Duration(math.Round(min(ns, float64(century))))
}

// take takes a token. If there is none it says how long until there is.
func (b *bucket) take(now time.Time) (wait time.Duration) {
	if wait = b.full.Add(-b.refill).Sub(now); wait > 0 {
		return wait
	}
	b.full = later(b.full, now).Add(b.interval)
	return 0
}
