// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"math"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// clock turns the kernel's CLOCK_MONOTONIC, which BPF programs read, into Go
// times. Those carry Go's monotonic reading of the same clock, so that
// durations between them stay right when the wall clock is set.
type clock struct {
	mu   sync.Mutex
	base time.Time
	mono int64 // base on CLOCK_MONOTONIC, ns
}

// newClock reads both clocks close together. Its times are never too early, and
// too late by what was between the two readings.
func newClock() (*clock, error) {
	const attempts = 8 // of which most are not interrupted
	c := new(clock)
	closest := time.Duration(math.MaxInt64)
	for range attempts {
		var ts unix.Timespec
		begin := time.Now()
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			return nil, err
		}
		base := time.Now()
		if apart := base.Sub(begin); apart < closest {
			closest, c.base, c.mono = apart, base, ts.Nano()
		}
	}
	return c, nil
}

// at is the time of a reading in nanoseconds; zero, which is never, stays zero.
// The wall clock's part of it is what that clock says now: it is set, and goes on
// in suspend. Between two such events the same reading is the same time.
func (c *clock) at(ns uint64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	passed, byWall := now.Sub(c.base), now.Round(0).Sub(c.base.Round(0))
	if (byWall - passed).Abs() > time.Second {
		c.base, c.mono = now, c.mono+int64(passed)
	}
	return c.base.Add(time.Duration(int64(ns) - c.mono))
}
