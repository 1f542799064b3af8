// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"container/heap"
	"time"
)

// deadlines has the peers whose state ends at some time, the next one first:
// connected peers, which may fall idle; those whose connection broke; those that
// back off; dormant ones that are to be evicted. No other dormant peer is in it.
type deadlines struct {
	all   []due // a heap
	timer *time.Timer
}

// due is the deadline of one of them.
type due struct {
	at   time.Time
	peer *peer
}

// noDeadline is where the deadline of a peer stands that has none.
const noDeadline = -1

func newDeadlines() *deadlines {
	timer := time.NewTimer(0)
	timer.Stop()
	return &deadlines{timer: timer}
}

// set gives the peer the deadline at, or none if at is zero.
func (d *deadlines) set(p *peer, at time.Time) {
	switch {
	case p.deadline != noDeadline && at.IsZero():
		heap.Remove(d, p.deadline)
	case p.deadline != noDeadline:
		d.all[p.deadline].at = at
		heap.Fix(d, p.deadline)
	case !at.IsZero():
		heap.Push(d, due{at, p})
	}
	d.schedule()
}

// of is the peer's deadline, zero if it has none.
func (d *deadlines) of(p *peer) time.Time {
	if p.deadline == noDeadline {
		return time.Time{}
	}
	return d.all[p.deadline].at
}

// schedule makes the timer fire at the first deadline.
func (d *deadlines) schedule() {
	if len(d.all) == 0 {
		d.timer.Stop()
		return
	}
	d.timer.Reset(time.Until(d.all[0].at))
}

// expired removes and returns a peer whose deadline has passed, or nil.
func (d *deadlines) expired(now time.Time) *peer {
	if len(d.all) == 0 || now.Before(d.all[0].at) {
		d.schedule()
		return nil
	}
	return heap.Pop(d).(due).peer
}

// Len, Less, Swap, Push and Pop are for container/heap.
func (d *deadlines) Len() int           { return len(d.all) }
func (d *deadlines) Less(i, j int) bool { return d.all[i].at.Before(d.all[j].at) }
func (d *deadlines) Swap(i, j int) {
	d.all[i], d.all[j] = d.all[j], d.all[i]
	d.all[i].peer.deadline, d.all[j].peer.deadline = i, j
}

func (d *deadlines) Push(x any) {
	last := x.(due)
	last.peer.deadline = len(d.all)
	d.all = append(d.all, last)
}

func (d *deadlines) Pop() any {
	end := len(d.all) - 1
	last := d.all[end]
	d.all[end], d.all = due{}, d.all[:end]
	last.peer.deadline = noDeadline
	return last
}
