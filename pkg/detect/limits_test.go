// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestHoldLimits holds more than there is room for: what was first goes first.
func TestHoldLimits(t *testing.T) {
	const datagram = 1000
	send := []string{"a", "b", "c", "d", "e", "f"}
	for i, s := range send {
		send[i] = strings.Repeat(s, datagram-28)
	}
	w := newTunnel(t, Options{})
	for name, test := range map[string]struct {
		limits Hold
		out    []string
	}{
		"packets":            {Hold{Packets: 2}, send[4:]},
		"bytes":              {Hold{Bytes: 3*datagram + 999}, send[3:]},
		"one is always kept": {Hold{Bytes: 10}, send[5:]},
		"both":               {Hold{Packets: 3, Bytes: 2 * datagram}, send[4:]},
		"neither":            {Hold{}, send},
		"too old":            {Hold{Timeout: time.Nanosecond}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w.in(t)
			if err := w.d.parking.do(func(p *parking) { p.limits = test.limits.withDefaults() }); err != nil {
				t.Fatal(err)
			}
			p := w.newHeld()
			w.send(p.v4, send...)
			w.park()
			w.d.mustOpen(p.id)
			w.dev.expect(test.out...)
			w.dev.nothing()
			passed, dropped := uint64(len(test.out)), uint64(len(send)-len(test.out))
			w.expectHeld(p, Activity{TxPackets: passed, Held: 6, Replayed: passed, Dropped: dropped})
			w.expectEmpty()
		})
	}
}

// TestHoldOptions has a detector that was given limits use them.
func TestHoldOptions(t *testing.T) {
	w := newTunnel(t, Options{Hold: Hold{Packets: 1}})
	p := w.newHeld()
	w.send(p.v4, "one", "two")
	w.park()
	w.d.mustOpen(p.id)
	w.dev.expect("two")
}

// TestHoldAll bounds what is held of all peers together.
func TestHoldAll(t *testing.T) {
	w := newTunnel(t, Options{})
	p, other := w.newHeld(), w.newHeld()
	const room = 100
	if err := w.d.parking.do(func(p *parking) { p.bytes = maxHeldBytes - room }); err != nil {
		t.Fatal(err)
	}
	w.send(p.v4, "fits", strings.Repeat("does not", room))
	w.send(other.v4, "fits")
	w.park()
	w.d.mustOpen(p.id)
	w.d.mustOpen(other.id)
	w.dev.expect("fits", "fits")
	w.expectHeld(p, Activity{TxPackets: 1, Held: 2, Replayed: 1, Dropped: 1})
}

// TestHoldRemove removes peers while somebody else goes on arming them and sending
// to them: what is held of them then counts no longer.
func TestHoldRemove(t *testing.T) {
	w := newTunnel(t, Options{})
	for range 300 {
		p := w.newHeld()
		held := make(chan struct{})
		var other sync.WaitGroup
		other.Go(func() {
			for sent := 0; w.d.Arm(p.id, true) == nil; sent++ {
				w.send(p.v4, "to be forgotten")
				if sent == 3 {
					close(held)
				}
				runtime.Gosched() // where there is one CPU
			}
		})
		<-held
		if err := w.d.Remove(p.id); err != nil {
			t.Fatal(err)
		}
		other.Wait()
	}
	w.park()
	w.expectEmpty()
}

// TestHoldSuccess holds more packets than the parking device takes while nobody
// reads it. The sender must not notice: where a packet is dropped in its sight,
// a socket with IP_RECVERR gets ENOBUFS.
func TestHoldSuccess(t *testing.T) {
	onEachHook(t, func(t *testing.T, hook Attach) {
		const packets = 3 * parkingQueue
		w := newTunnel(t, Options{Attach: hook})
		p := w.newHeld()
		control(t, w.dev.socket4, func(fd int) error {
			return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_RECVERR, 1)
		})
		resume := w.pause()
		for i := range packets {
			w.send(p.v4, fmt.Sprint(i))
		}
		resume()
		w.d.mustOpen(p.id)
		w.send(p.v4, "afterwards")

		a := w.d.mustActivity(p.id)
		if a.Held != packets || a.Replayed+a.Dropped != packets || a.Replayed == 0 || a.TxPackets != a.Replayed+1 {
			t.Errorf("of %d packets: %+v", packets, a)
		}
		last := -1
		for range a.Replayed {
			var n int
			if _, err := fmt.Sscan(data(w.dev.next()), &n); err != nil || n <= last {
				t.Fatalf("after packet %d comes %d: %v", last, n, err)
			}
			last = n
		}
		w.dev.expect("afterwards")
		w.expectEmpty()
	})
}

// pause keeps the goroutine that has the queues from reading what is held,
// until the function it returns is called.
func (w *tunnel) pause() (resume func()) {
	paused, wait, done := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		done <- w.d.parking.do(func(*parking) { close(paused); <-wait })
	}()
	<-paused
	return func() {
		close(wait)
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	}
}

// TestQueue is about what a queue does with its limits, packet by packet.
func TestQueue(t *testing.T) {
	limits := Hold{Packets: 3, Bytes: 10, Timeout: time.Second}
	push := func(q *queue, payload string) int { return q.push(heldPacket{bytes: []byte(payload)}, limits) }
	var q queue
	for _, step := range []struct {
		payload string
		grows   int
		left    []string
	}{
		{"aaa", 3, []string{"aaa"}},
		{"bbb", 3, []string{"aaa", "bbb"}},
		{"ccc", 3, []string{"aaa", "bbb", "ccc"}},
		{"d", -2, []string{"bbb", "ccc", "d"}},
		{"eeeeee", 3, []string{"ccc", "d", "eeeeee"}},
		{"ffffffffffff", 2, []string{"ffffffffffff"}},
		{"g", -11, []string{"g"}},
	} {
		grows := push(&q, step.payload)
		var left []string
		bytes := 0
		for _, p := range q.packets {
			left = append(left, string(p.bytes))
			bytes += len(p.bytes)
		}
		if grows != step.grows || !slices.Equal(left, step.left) || q.bytes != bytes {
			t.Errorf("push %q: grows by %d to %d, %q; want by %d to %d, %q", step.payload, grows, q.bytes, left, step.grows, bytes, step.left)
		}
	}
	if got := q.dropped.Load(); got != 6 {
		t.Errorf("%d dropped, want 6", got)
	}
	if taken := q.take(); len(taken) != 1 || len(q.packets) != 0 || q.bytes != 0 {
		t.Errorf("took %d packets, left %d of %d bytes", len(taken), len(q.packets), q.bytes)
	}
}
