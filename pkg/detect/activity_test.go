// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestActivity sends packets either way, through a device that carries them.
func TestActivity(t *testing.T) {
	onEachHook(t, func(t *testing.T, hook Attach) {
		w := newTunnel(t, Options{Attach: hook})
		p, other := w.newPeer(), w.newPeer()
		if got := w.d.mustActivity(p.id); got != (Activity{}) {
			t.Errorf("at first: %+v", got)
		}

		start := time.Now()
		w.send(p.v4, "four")
		w.send(p.v6, "six", "and six")
		sent := time.Now()
		w.dev.answer(p.v4, "four")
		w.dev.answer(p.v6, "six")
		end := time.Now()

		got := w.d.mustActivity(p.id)
		want := Activity{
			LastTx: got.LastTx, LastRx: got.LastRx,
			TxPackets: 3, TxBytes: 28 + 4 + 48 + 3 + 48 + 7, RxPackets: 2, RxBytes: 28 + 4 + 48 + 3,
		}
		if got != want {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
		if got.Packets() != 5 || !got.Last().Equal(got.LastRx) {
			t.Errorf("%d packets, last %s, want 5, %s", got.Packets(), got.Last(), got.LastRx)
		}
		expectWithin(t, "LastTx", got.LastTx, start, sent)
		expectWithin(t, "LastRx", got.LastRx, sent, end)
		if got := w.d.mustActivity(other.id); got != (Activity{}) {
			t.Errorf("of the other peer: %+v", got)
		}
		w.dev.expect("four", "six", "and six")
		if events := w.d.raised(); len(events) > 0 {
			t.Errorf("peers that are not armed have raised %+v", events)
		}
	})
}

// expectWithin allows for the resolution of the programs' clock.
func expectWithin(t *testing.T, what string, got, from, to time.Time) {
	t.Helper()
	const ticks = 22 * time.Millisecond
	if got.Before(from.Add(-ticks)) || got.After(to.Add(clockError)) {
		t.Errorf("%s is %s, not between %s and %s", what, got, from, to)
	}
}

// TestArm wakes peers by each way that a packet can come.
func TestArm(t *testing.T) {
	onEachHook(t, func(t *testing.T, hook Attach) {
		w := newTunnel(t, Options{Attach: hook})
		for name, test := range map[string]struct {
			direction Direction
			peer      func(peer) netip.AddrPort
		}{
			"egress IPv4":  {Egress, func(p peer) netip.AddrPort { return p.v4 }},
			"egress IPv6":  {Egress, func(p peer) netip.AddrPort { return p.v6 }},
			"ingress IPv4": {Ingress, func(p peer) netip.AddrPort { return p.v4 }},
			"ingress IPv6": {Ingress, func(p peer) netip.AddrPort { return p.v6 }},
		} {
			t.Run(name, func(t *testing.T) {
				w.in(t)
				p := w.newPeer()
				address := test.peer(p)
				host := w.dev.host(address)
				for round := range 3 { // an arming that was not the first is one, too
					w.d.mustArm(p.id, false)
					want := Event{ID: p.id, Direction: test.direction, UID: NoUID}
					for range 3 {
						payload := fmt.Sprint("round ", round)
						if test.direction == Egress {
							w.send(address, payload)
							w.dev.expect(payload)
							want.UID = uint32(unix.Getuid())
							want.Flow = Flow{unix.IPPROTO_UDP, host, address}
						} else {
							w.dev.answer(address, payload)
							want.Flow = Flow{unix.IPPROTO_UDP, address, host}
						}
						want.Length = len(udp(host, address, payload))
					}
					events := w.d.raised()
					if len(events) != 1 {
						t.Fatalf("raised %+v, want one event", events)
					}
					want.Time = events[0].Time
					if events[0] != want {
						t.Errorf("\ngot  %+v\nwant %+v", events[0], want)
					}
				}
			})
		}
	})
}

// TestArmMark reads the mark of the sending socket.
func TestArmMark(t *testing.T) {
	w := newTunnel(t, Options{})
	p := w.newPeer()
	w.d.mustArm(p.id, false)
	control(t, w.dev.socket4, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, 0xcafe)
	})
	w.send(p.v4, "marked")
	if event := w.d.nextEvent(); event.Mark != 0xcafe {
		t.Errorf("mark %#x, want 0xcafe", event.Mark)
	}
}

// forwardIPv4 makes the kernel a router for the length of a test.
func forwardIPv4(t *testing.T) {
	t.Helper()
	set := func(value string) {
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	set("1")
	t.Cleanup(func() { set("0") })
}

// TestArmForwarded wakes a peer by what another one sends through the host. No
// local socket has sent that.
func TestArmForwarded(t *testing.T) {
	forwardIPv4(t)
	w := newTunnel(t, Options{})
	from, to := w.newPeer(), w.newHeld()
	w.dev.inject(udp(from.v4, to.v4, "from peer to peer"))
	event := w.d.nextEvent()
	want := Event{
		ID: to.id, Time: event.Time, Flow: Flow{unix.IPPROTO_UDP, from.v4, to.v4},
		Length: 28 + len("from peer to peer"), UID: NoUID,
	}
	if event != want {
		t.Errorf("\ngot  %+v\nwant %+v", event, want)
	}
	w.d.mustOpen(to.id)
	for data(w.dev.next()) != "from peer to peer" { // the kernel may tell the sender of a shorter way
	}
	w.expectHeld(to, Activity{TxPackets: 1, Held: 1, Replayed: 1})
}

// TestShortPackets sends what no IP stack would, but a packet socket can. Test
// runs take no packets as short as these.
func TestShortPackets(t *testing.T) {
	onEachHook(t, func(t *testing.T, hook Attach) {
		w := newTunnel(t, Options{Attach: hook})
		p := w.newPeer()
		raw, err := newReplayer(w.dev.index)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.close()
		for _, packet := range [][]byte{udp(hostPort4, p.v4, ""), udp(hostPort6, p.v6, "")} {
			header := header4
			if packet[0]>>4 == 6 {
				header = header6
			}
			for length := 1; length < header; length++ {
				counted := w.d.counts(p.id)
				if err := raw.send(heldPacket{bytes: packet[:length], protocol: protocolOf(packet)}); err != nil {
					t.Fatalf("send %d bytes: %v", length, err)
				}
				counted.expect(Egress, 0, 0, 0, Stats{Malformed: 1})
				if got := w.dev.next(); string(got) != string(packet[:length]) {
					t.Errorf("of %x %x came out", packet[:length], got)
				}
			}
		}
	})
}
