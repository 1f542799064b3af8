// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"bytes"
	"slices"
	"sync/atomic"
	"time"
)

// Hold bounds what is held of one peer. Zero fields take the default, negative
// ones are refused.
type Hold struct {
	// Packets is the most that are kept, default 128 as in WireGuard's own
	// staging queue. The oldest gives way.
	Packets int
	// Bytes is the most that are kept, default 256 KiB, of IP packets with their
	// headers. The newest packet is kept even if it has more.
	Bytes int
	// Timeout is how long a packet is worth sending, default 30 s.
	Timeout time.Duration
}

func (h Hold) withDefaults() Hold {
	if h.Packets == 0 {
		h.Packets = 128
	}
	if h.Bytes == 0 {
		h.Bytes = 256 << 10
	}
	if h.Timeout == 0 {
		h.Timeout = 30 * time.Second
	}
	return h
}

// heldPacket is an IP packet that waits for its peer.
type heldPacket struct {
	bytes    []byte
	protocol uint16 // ETH_P_IP or ETH_P_IPV6
	at       time.Time
	syn      Flow // of the connection that it opens; zero for other packets
}

// replaces says whether it makes another packet needless.
func (p heldPacket) replaces(other heldPacket) bool { return p.syn != Flow{} && p.syn == other.syn }

// queue has what is held of one peer, oldest first. The packets are those of
// the parking goroutine alone, the counters may be read by all.
type queue struct {
	packets []heldPacket
	bytes   int

	replayed, dropped atomic.Uint64
}

// push copies a packet into the queue, within its limits, and returns by how
// many bytes the queue has grown.
func (q *queue) push(p heldPacket, limits Hold) int {
	before := q.bytes
	p.bytes = bytes.Clone(p.bytes)
	q.bytes += len(p.bytes)
	// Of the SYNs of a flow only the last one is worth anything: sent again they
	// would reach the peer twice at once, and that of a connection that was given
	// up would be in the way of the next.
	if i := slices.IndexFunc(q.packets, p.replaces); i >= 0 {
		q.bytes -= len(q.packets[i].bytes)
		q.packets[i] = p
		q.dropped.Add(1)
	} else {
		q.packets = append(q.packets, p)
	}
	for len(q.packets) > limits.Packets || q.bytes > limits.Bytes && len(q.packets) > 1 {
		q.bytes -= len(q.packets[0].bytes)
		q.packets = slices.Delete(q.packets, 0, 1)
		q.dropped.Add(1)
	}
	return q.bytes - before
}

// take empties the queue.
func (q *queue) take() []heldPacket {
	packets := q.packets
	q.packets, q.bytes = nil, 0
	return packets
}
