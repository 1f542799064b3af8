// SPDX-License-Identifier: Apache-2.0

package top

import (
	"slices"
	"strings"
	"time"

	"github.com/lazybpf/lazybpf/pkg/control"
)

// samples is how many rates are remembered, one a status.
const samples = 60

// traffic is what a peer, or all of them together, sent and received of late.
type traffic struct {
	rx, tx float64 // bytes a second
	// past is the sum of both at each status, the newest last; nil if nothing has passed for as long as it reaches.
	past []float64
}

// add takes the bytes since the status before.
func (t *traffic) add(rx, tx uint64, since time.Duration) {
	t.rx, t.tx = rate(rx, since), rate(tx, since)
	if t.past == nil && rx+tx == 0 {
		return // as of nearly all peers
	}
	t.past = append(t.past, t.rx+t.tx)
	if len(t.past) > samples {
		t.past = slices.Delete(t.past, 0, len(t.past)-samples)
	}
	if slices.Max(t.past) == 0 {
		t.past = nil
	}
}

func rate(bytes uint64, since time.Duration) float64 {
	if since <= 0 {
		return 0
	}
	return float64(bytes) / since.Seconds()
}

// counted is how much a counter has grown. One that is smaller than it was began anew, with the daemon.
func counted(before, now uint64) uint64 {
	if now < before {
		return 0
	}
	return now - before
}

var bars = []rune("▁▂▃▄▅▆▇") // not █, which touches the line above

// spark draws the last values, relative to the highest of them. The lowest bar is for little, a blank for nothing.
func spark(past []float64, width int) string {
	past = past[max(0, len(past)-width):]
	var b strings.Builder
	b.WriteString(strings.Repeat(" ", width-len(past)))
	if len(past) == 0 {
		return b.String()
	}
	most := slices.Max(past)
	for _, value := range past {
		if value == 0 {
			b.WriteByte(' ')
			continue
		}
		b.WriteRune(bars[min(len(bars)-1, int(value/most*float64(len(bars))))])
	}
	return b.String()
}

// sum is of all peers.
type sum struct {
	wakes, dropped  int
	median, longest time.Duration // of their last wakes; 0: none took any time
}

func sumOf(all []*row) (s sum) {
	var took []time.Duration
	for _, r := range all {
		s.wakes += int(r.Wakes)
		s.dropped += int(r.Dropped)
		if d := tookOf(r.Peer); d > 0 {
			took = append(took, d)
		}
	}
	if len(took) > 0 {
		slices.Sort(took)
		s.median, s.longest = took[len(took)/2], took[len(took)-1]
	}
	return s
}

// tookOf is how long a peer's last wake took; 0: it had none, or took none.
func tookOf(p *control.Peer) time.Duration {
	if p.LastWake == nil {
		return 0
	}
	took, _ := time.ParseDuration(p.LastWake.Took)
	return took
}
