// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// recorder is a connector that does nothing but tell which peers it opens.
type recorder chan lazy.Key

func (r recorder) Open(_ context.Context, key lazy.Key, _ lazy.Wake) error { r <- key; return nil }
func (recorder) Close(context.Context, lazy.Key) error                     { return nil }

func (r recorder) next(b testing.TB) lazy.Key {
	b.Helper()
	select {
	case key := <-r:
		return key
	case <-time.After(patience):
		b.Fatal("no peer woke")
		panic("unreachable")
	}
}

// talk sends a datagram to a peer that is made up.
func talk(b testing.TB, n *lab.Network, peer int) {
	b.Helper()
	socket, err := n.Here.DialUDP(netip.AddrPortFrom(addressOf(peer), 9))
	if err == nil {
		_, err = socket.Write([]byte("a packet"))
		socket.Close()
	}
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkEvent is how long it takes from the moment in which a packet passes the
// hook until the manager, in a process of its own, has taken its event. Most of
// it is the kernel waking a thread: what that takes by itself is measured in
// turn, with a pipe.
func BenchmarkEvent(b *testing.B) {
	const samples = 2000
	n := newNetwork(b)
	peers := sized(100_000)
	var took, thread []time.Duration
	for b.Loop() {
		took, thread = took[:0], thread[:0]
		c := startChild(b, order{Interface: n.Here.Name, Dormant: peers})
		p := newPipe(b)
		each := max(1, peers/samples)
		for peer := 0; peer < peers; peer += each {
			time.Sleep(time.Millisecond) // until all is still, and the process asleep
			talk(b, n, peer)
			var t time.Duration
			c.hear(&t)
			took = append(took, t)
			time.Sleep(time.Millisecond)
			thread = append(thread, p.wake(b))
		}
		p.close()
		c.stop()
	}
	reportQuantiles(b, "", took)
	reportQuantiles(b, "thread-", thread)
	b.ReportMetric(0, "ns/op")
}

// pipe has a thread at one end that sleeps in the kernel.
type pipe struct {
	ends  [2]int
	awake chan time.Time
}

func newPipe(b testing.TB) *pipe {
	b.Helper()
	p := &pipe{awake: make(chan time.Time)}
	if err := unix.Pipe2(p.ends[:], unix.O_CLOEXEC); err != nil {
		b.Fatal(err)
	}
	go func() {
		defer close(p.awake)
		var one [1]byte
		for {
			if n, _ := unix.Read(p.ends[0], one[:]); n == 0 {
				return
			}
			p.awake <- time.Now()
		}
	}()
	return p
}

// wake says how long after a byte was written the thread was awake.
func (p *pipe) wake(b testing.TB) time.Duration {
	b.Helper()
	begin := time.Now()
	if _, err := unix.Write(p.ends[1], []byte{1}); err != nil {
		b.Fatal(err)
	}
	return (<-p.awake).Sub(begin)
}

func (p *pipe) close() {
	unix.Close(p.ends[1])
	<-p.awake
	unix.Close(p.ends[0])
}
