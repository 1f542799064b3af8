// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// clockError is by how much the detector's clock may be late, never early, if it
// was interrupted whenever it was set.
const clockError = time.Millisecond

func TestEvents(t *testing.T) {
	t.Parallel()
	d := newRig(t, Options{})
	peer := d.mustAdd(single(peerPort4), single(peerPort6))
	large := string(make([]byte, 3000))
	for name, test := range map[string]struct {
		direction Direction
		packet    []byte
		context   skb
		want      Event
	}{
		"IPv4, egress": {
			Egress, udp(hostPort4, peerPort4, "query"), skb{Mark: 0xdecaf},
			// The socket of a test run is root's.
			Event{Flow: Flow{unix.IPPROTO_UDP, hostPort4, peerPort4}, Length: 33, Mark: 0xdecaf, UID: 0},
		},
		"IPv4, ingress": {
			Ingress, udp(peerPort4, hostPort4, "answer"), skb{Mark: 7},
			Event{Flow: Flow{unix.IPPROTO_UDP, peerPort4, hostPort4}, Length: 34, Mark: 7, UID: NoUID},
		},
		"IPv6, egress": {
			Egress, tcp(hostPort6, peerPort6, tcpSYN), skb{},
			Event{Flow: Flow{unix.IPPROTO_TCP, hostPort6, peerPort6}, Length: 60},
		},
		"IPv6, ingress": {
			Ingress, tcp(peerPort6, hostPort6, tcpSYN|tcpACK), skb{},
			Event{Flow: Flow{unix.IPPROTO_TCP, peerPort6, hostPort6}, Length: 60, UID: NoUID},
		},
		"shortest": {
			Egress, ip(host4, peerPort4.Addr(), unix.IPPROTO_TCP, nil), skb{},
			Event{Flow: Flow{unix.IPPROTO_TCP, noPort(host4), noPort(peerPort4.Addr())}, Length: header4},
		},
		"many segments": {
			Egress, udp(hostPort4, peerPort4, large), skb{GSOSegs: 3, GSOSize: 1000},
			Event{Flow: Flow{unix.IPPROTO_UDP, hostPort4, peerPort4}, Length: 3028},
		},
		"long chain of extension headers": {
			Egress, extended6(hostPort6, peerPort6, "", bytes.Repeat([]byte{unix.IPPROTO_DSTOPTS}, 20)...), skb{},
			Event{Flow: Flow{unix.IPPROTO_DSTOPTS, noPort(host6), noPort(peerPort6.Addr())}, Length: 40 + 20*8 + 8},
		},
	} {
		t.Run(name, func(t *testing.T) {
			d.t = t
			d.mustArm(peer, false)
			before := time.Now()
			d.run(test.direction, test.packet, test.context)
			after := time.Now()
			got := d.nextEvent()
			if got.Time.Before(before) || got.Time.After(after.Add(clockError)) {
				t.Errorf("time %s is not between %s and %s", got.Time, before, after)
			}
			test.want.ID, test.want.Direction, test.want.Time = peer, test.direction, got.Time
			if got != test.want {
				t.Errorf("\ngot  %+v\nwant %+v", got, test.want)
			}
		})
	}
}

func FuzzDecodeEvent(f *testing.F) {
	var raw bpfEvent
	size := int(unsafe.Sizeof(raw))
	for _, packet := range [][]byte{nil, udp(hostPort4, peerPort4, "hello"), tcp(hostPort6, peerPort6, tcpSYN)} {
		raw = bpfEvent{Time: 1e9, Slot: 3, Generation: 7, Direction: 1, Uid: NoUID, Length: 1 << 16, Captured: uint32(copy(raw.Packet[:], packet))}
		record, err := binary.Append(nil, binary.NativeEndian, raw)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(record)
		f.Add(record[:len(record)-1])
		f.Add(append(record, 0, 0, 0, 0)) // as large as the ring buffer rounds it up to
	}
	f.Add(bytes.Repeat([]byte{0xff}, size)) // captures more than there is
	f.Fuzz(func(t *testing.T, record []byte) {
		event, err := decodeEvent(record, new(clock))
		if (err != nil) != (len(record) < size) {
			t.Fatalf("%d bytes of %d: %v", len(record), size, err)
		}
		if err != nil {
			return
		}
		if _, err := binary.Decode(record, binary.NativeEndian, &raw); err != nil {
			t.Fatal(err)
		}
		captured := min(int(raw.Captured), len(raw.Packet))
		flow, _ := parse(raw.Packet[:captured])
		want := Event{
			ID: newID(raw.Slot, uint16(raw.Generation)), Direction: Direction(raw.Direction), Time: event.Time, Flow: flow,
			Length: int(raw.Length), Mark: raw.Mark, UID: raw.Uid,
		}
		if event != want {
			t.Errorf("\ngot  %+v\nwant %+v", event, want)
		}
	})
}

// TestRaise raises events from here, with room for them and without, and once
// nobody can take them.
func TestRaise(t *testing.T) {
	t.Parallel()
	d := newRig(t, Options{})
	raise := func(gate, want bpfGate) {
		t.Helper()
		d.mu.Lock()
		defer d.mu.Unlock()
		r := bpfPeer{Gate: gate}
		d.Detector.raise(&r, Event{ID: newID(1000, 1)})
		if r.Gate != want {
			t.Errorf("gate %d is %d, want %d", gate, r.Gate, want)
		}
	}
	const armed, woken, answered = bpfGateGATE_ARMED_HOLD, bpfGateGATE_WOKEN_HOLD, bpfGateGATE_HOLD
	raise(armed, woken)
	raise(woken, woken)
	raise(answered, answered)
	if events := d.raised(); len(events) != 1 || events[0].ID != newID(1000, 1) {
		t.Errorf("raised %+v, want one event", events)
	}
	for range cap(d.events) {
		raise(armed, woken)
	}
	raise(armed, armed)
	if events := d.raised(); len(events) != cap(d.events) {
		t.Errorf("raised %d events, want %d", len(events), cap(d.events))
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	raise(armed, armed)
}

func TestClock(t *testing.T) {
	c, err := newClock()
	if err != nil {
		t.Fatal(err)
	}
	if !c.at(0).IsZero() {
		t.Errorf("never is %s", c.at(0))
	}
	var ts unix.Timespec
	before := time.Now()
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		t.Fatal(err)
	}
	if got := c.at(uint64(ts.Nano())); got.Before(before) || got.After(time.Now().Add(clockError)) {
		t.Errorf("%s was not just now, at %s", got, before)
	}
	if got := c.at(uint64(ts.Nano()) + 1e9).Sub(c.at(uint64(ts.Nano()))); got != time.Second {
		t.Errorf("a second lasts %s", got)
	}
}

// TestClockSet has somebody set the wall clock, or the machine asleep for hours:
// times are those of the clock on the wall all the same, and as far apart as before.
func TestClockSet(t *testing.T) {
	for _, hours := range []int{-9, 9} {
		c, err := newClock()
		if err != nil {
			t.Fatal(err)
		}
		last, mono := c.at(uint64(c.mono)), c.mono
		c.base = elsewhere(c.base, hours)
		now := time.Now()
		got := c.at(uint64(mono) + uint64(now.Sub(last)))
		if apart := got.Round(0).Sub(now.Round(0)).Abs(); apart > clockError {
			t.Errorf("%s is %s from %s", got, apart, now)
		}
		if !got.Equal(now) {
			t.Errorf("%s after the first time, want %s", got.Sub(last), now.Sub(last))
		}
		if again := c.at(uint64(mono) + uint64(now.Sub(last))); again != got {
			t.Errorf("the same time is %s and %s", got, again)
		}
	}
}

// elsewhere is a time of the same monotonic clock by a wall clock that differs by
// so many hours. The first word of a Time has the seconds above 30 bits of
// nanoseconds.
func elsewhere(t time.Time, hours int) time.Time {
	*(*uint64)(unsafe.Pointer(&t)) += uint64(hours*3600) << 30
	return t
}

func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		Egress.String(): "egress", Ingress.String(): "ingress", newID(17, 1).String(): "17.1",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
