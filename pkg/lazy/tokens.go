// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"math"
	"time"

	"golang.org/x/time/rate"
)

// tokens are what Opens by packets and groups take, by WakeRate and WakeBurst.
// They come by a clock that ticks: so a timer meets the moment at which the next
// one is there, however a bucket rounds.
type tokens struct {
	bucket *rate.Limiter
	start  time.Time // of the clock
}

const tokenTick = time.Millisecond

// newTokens makes a bucket that is full.
func newTokens(o Options) tokens {
	t := tokens{rate.NewLimiter(rate.Inf, 0), time.Now()}
	if o.WakeRate > 0 {
		t.bucket = rate.NewLimiter(rate.Limit(o.WakeRate), o.WakeBurst)
	}
	return t
}

func (t tokens) tick(now time.Time) time.Time {
	return t.start.Add(now.Sub(t.start).Truncate(tokenTick))
}

// take takes a token, if there is one.
func (t tokens) take(now time.Time) bool { return t.bucket.AllowN(t.tick(now), 1) }

// until is how long it takes until there is a token, 0 if there is one.
func (t tokens) until(now time.Time) time.Duration {
	tick := t.tick(now)
	missing := (1 - t.bucket.TokensAt(tick)) / float64(t.bucket.Limit()) * float64(time.Second)
	const longest = math.MaxInt64 / 2
	wait := time.Duration(min(missing, longest)) // of less than 1 ns the bucket takes no notice either
	if wait <= 0 {
		return 0
	}
	return tick.Add((wait + tokenTick - 1).Truncate(tokenTick)).Sub(now)
}
