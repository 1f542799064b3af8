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
	peers []*peer
	timer *time.Timer
}

func newDeadlines() *deadlines {
	timer := time.NewTimer(0)
	timer.Stop()
	return &deadlines{timer: timer}
}

// set gives the peer the deadline at, or none if at is zero.
func (d *deadlines) set(p *peer, at time.Time) {
	p.due = at
	switch {
	case p.index >= 0 && at.IsZero():
		heap.Remove(d, p.index)
	case p.index >= 0:
		heap.Fix(d, p.index)
	case !at.IsZero():
		heap.Push(d, p)
	}
	d.schedule()
}

// schedule makes the timer fire at the first deadline.
func (d *deadlines) schedule() {
	if len(d.peers) == 0 {
		d.timer.Stop()
		return
	}
	d.timer.Reset(time.Until(d.peers[0].due))
}

// expired removes and returns a peer whose deadline has passed, or nil.
func (d *deadlines) expired(now time.Time) *peer {
	if len(d.peers) == 0 || now.Before(d.peers[0].due) {
		d.schedule()
		return nil
	}
	p := heap.Pop(d).(*peer)
	p.due = time.Time{}
	return p
}

// Len, Less, Swap, Push and Pop are for container/heap.
func (d *deadlines) Len() int           { return len(d.peers) }
func (d *deadlines) Less(i, j int) bool { return d.peers[i].due.Before(d.peers[j].due) }
func (d *deadlines) Swap(i, j int) {
	d.peers[i], d.peers[j] = d.peers[j], d.peers[i]
	d.peers[i].index, d.peers[j].index = i, j
}

func (d *deadlines) Push(x any) {
	p := x.(*peer)
	p.index = len(d.peers)
	d.peers = append(d.peers, p)
}

func (d *deadlines) Pop() any {
	last := len(d.peers) - 1
	p := d.peers[last]
	d.peers[last], d.peers = nil, d.peers[:last]
	p.index = -1
	return p
}
