// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

// memberOf is a peer of these groups.
func memberOf(n byte, groups ...string) Peer {
	peer := peerOf(n)
	peer.Groups = groups
	return peer
}

// addTo adds dormant peers to a group.
func (w *world) addTo(group string, numbers ...byte) {
	w.Helper()
	for _, n := range numbers {
		_, err := w.AddPeer(memberOf(n, group))
		w.ok(err)
	}
}

func (w *world) are(want State, numbers ...byte) {
	w.Helper()
	for _, n := range numbers {
		w.is(n, want)
	}
}

// A wake of one member, whatever the reason, opens the others, and those of no
// other group.
func TestOneMemberWakesAll(t *testing.T) {
	for reason, wake := range map[Reason]func(*world){
		ReasonEgress:  func(w *world) { w.send(detect.Egress, 2) },
		ReasonIngress: func(w *world) { w.send(detect.Ingress, 2) },
		ReasonRequest: func(w *world) { w.ok(w.ActivatePeer(key(2))) },
	} {
		t.Run(reason.String(), func(t *testing.T) {
			play(t, Options{}, func(w *world) {
				w.addTo("a", 1)
				_, err := w.AddPeer(memberOf(2, "a", "b", "a"))
				w.ok(err)
				w.addTo("b", 3)
				_, err = w.AddPeer(memberOf(4, "b", "c"))
				w.ok(err)
				w.addTo("c", 5) // which peer 4 does not wake: it was only woken with 2
				w.add(6)
				wake(w)
				w.are(Connected, 1, 2, 3, 4)
				w.are(Idle, 5, 6)
				for n := byte(1); n <= 4; n++ {
					w.opened(n, 1)
					want := ReasonGroup
					if n == 2 {
						want = reason
					}
					if got := w.status(n).LastWake; got.Reason != want || got.Event != w.status(2).LastWake.Event {
						t.Errorf("peer %d woke by %s of event %v, want %s", n, got.Reason, got.Event, want)
					}
				}
				if got := w.status(2).Groups; !slices.Equal(got, []string{"a", "b"}) {
					t.Errorf("groups are %q", got)
				}
			})
		})
	}
}

// Peers on the exclude list wake their groups when they open, no matter
// whether peer or list comes first.
func TestExcludedMemberWakesAll(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.addTo("a", 1, 2)
		w.addTo("b", 4)
		w.exclude(1, 3)
		w.are(Connected, 1, 2)
		w.addTo("b", 3)
		w.are(Connected, 3, 4)

		time.Sleep(threshold) // permanent members without traffic keep nobody awake
		w.are(Idle, 2, 4)
		w.are(Connected, 1, 3)
		w.send(detect.Egress, 1)
		w.addTo("a", 5)
		w.is(5, Connected)
	})
}

// No member sleeps while one is active, and all do when the last one is silent.
func TestActiveMemberKeepsOthersAwake(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.addTo("a", 1, 2, 3)
		w.connect(1)
		for range 5 {
			time.Sleep(threshold - time.Second)
			w.send(detect.Egress, 2) // another one than that which woke first
		}
		w.are(Connected, 1, 2, 3)
		for n := byte(1); n <= 3; n++ {
			if got := time.Until(w.status(n).IdleAt); got != threshold {
				t.Errorf("peer %d says that it will be idle in %s", n, got)
			}
		}
		w.fails(w.DeactivatePeer(key(1)), ErrStaysAwake)
		time.Sleep(threshold - 1)
		w.are(Connected, 1, 2, 3)
		time.Sleep(time.Nanosecond)
		w.are(Idle, 1, 2, 3)
		for n := byte(1); n <= 3; n++ {
			w.closed(n, 1)
		}
	})
}

// A standby that only the group woke keeps nobody awake, however long its own
// threshold, and sleeps together with the one that is talked to.
func TestStandbySleepsWithItsGroup(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.addTo("a", 1)
		standby := memberOf(2, "a")
		standby.Threshold = 4 * threshold
		_, err := w.AddPeer(standby)
		w.ok(err)
		w.connect(1)
		time.Sleep(5 * threshold / 2)
		w.is(1, Idle)
		w.is(2, Connected) // for its own threshold
		w.connect(1)
		for range 4 {
			time.Sleep(threshold - 1)
			w.send(detect.Ingress, 1)
		}
		w.parksAfter(1, threshold)
		w.is(2, Idle)
	})
}

// While a member connects, however long that takes, the others stay.
func TestConnectingMemberKeepsOthersAwake(t *testing.T) {
	play(t, Options{OpenTimeout: 10 * threshold}, func(w *world) {
		answers := newAnswers(w)
		w.connector.open = func(ctx context.Context, peer Key, wake Wake) error {
			if peer == key(1) {
				return answers.open(ctx, peer, wake)
			}
			return nil
		}
		w.addTo("a", 1, 2)
		w.send(detect.Egress, 1)
		time.Sleep(5 * threshold)
		w.is(2, Connected)
		answers.give(w, errRefused)
		w.are(Idle, 1, 2) // at once: nothing else keeps peer 2 awake
	})
}

// A member that could not be opened is tried again while it is needed.
func TestFailedMemberIsRetried(t *testing.T) {
	play(t, Options{}, func(w *world) {
		answers := newAnswers(w)
		w.connector.open = func(ctx context.Context, peer Key, wake Wake) error {
			if peer == key(2) {
				return answers.open(ctx, peer, wake)
			}
			return nil
		}
		w.addTo("a", 1, 2)
		w.connect(1)
		answers.give(w, errRefused)
		w.backsOff(2, 1)
		w.send(detect.Egress, 1)
		time.Sleep(time.Until(w.status(2).RetryAt))
		w.is(2, Connecting)
		if got := w.status(2).LastWake.Reason; got != ReasonGroup {
			t.Errorf("tried again by %s", got)
		}
		answers.give(w, nil)
		w.is(2, Connected)
	})
}

// Whoever comes to an active group, in any way, is opened.
func TestNewMemberOfActiveGroupOpens(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.addTo("a", 1)
		w.connect(1)
		w.addTo("a", 2)
		w.add(3, 4)
		w.ok(w.UpdatePeer(memberOf(3, "a")))
		w.are(Connected, 2, 3)
		w.ok(w.SetGroups(map[string][]Key{"a": {key(1), key(4)}}))
		w.is(4, Connected)
		if got := w.status(4).LastWake.Reason; got != ReasonGroup {
			t.Errorf("peer 4 woke by %s", got)
		}
		w.addTo("b", 5)
		w.ok(w.AddActivePeers(memberOf(6, "b")))
		w.is(5, Connected)
	})
}

// A member that leaves, in any way, no longer keeps the others awake.
func TestMemberLeavesGroup(t *testing.T) {
	for name, leave := range map[string]func(*world) error{
		"removed":      func(w *world) error { return w.RemovePeer(key(1)) },
		"updated":      func(w *world) error { return w.UpdatePeer(peerOf(1)) },
		"groups":       func(w *world) error { return w.SetGroups(nil) },
		"disconnected": func(w *world) error { return w.ReportDisconnected(key(1)) },
	} {
		t.Run(name, func(t *testing.T) {
			play(t, Options{}, func(w *world) {
				w.addTo("a", 1, 2)
				w.connect(1)
				time.Sleep(threshold - time.Second)
				w.send(detect.Egress, 1)
				time.Sleep(2 * time.Second)
				w.is(2, Connected)
				w.ok(leave(w))
				w.is(2, Idle)
			})
		})
	}
}

// A group's threshold is that of the member that is talked to, as it is now.
func TestThresholdOfMemberChanges(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.addTo("a", 1, 2)
		w.connect(1)
		time.Sleep(2 * time.Second)
		short := memberOf(1, "a")
		short.Threshold = time.Second
		w.ok(w.UpdatePeer(short))
		w.is(1, Idle)
		w.parksAfter(2, threshold-2*time.Second)
	})
}

// SetGroups takes effect whole, or not at all.
func TestSetGroups(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.addTo("a", 1, 2)
		w.add(3)
		w.fails(w.SetGroups(map[string][]Key{
			"b": {key(1), key(2), key(3)}, "c": {key(3), key(9)},
		}), ErrUnknownPeer)
		for n, want := range map[byte][]string{1: {"a"}, 2: {"a"}, 3: nil} {
			if got := w.status(n).Groups; !slices.Equal(got, want) {
				t.Errorf("peer %d is in %q, want %q as before", n, got, want)
			}
		}
		w.ok(w.SetGroups(map[string][]Key{"c": {key(3), key(1), key(3)}, "b": {key(3)}}))
		for n, want := range map[byte][]string{1: {"c"}, 2: nil, 3: {"b", "c"}} {
			if got := w.status(n).Groups; !slices.Equal(got, want) {
				t.Errorf("peer %d is in %q, want %q", n, got, want)
			}
		}
		w.are(Idle, 1, 2, 3)
		w.connect(1)
		w.is(3, Connected)
		w.is(2, Idle)
		w.ok(w.do(func() error {
			if len(w.groups) != 2 || len(w.groups["c"]) != 2 {
				t.Errorf("groups are %v", w.groups)
			}
			return nil
		}))
		w.ok(w.SetGroups(nil))
		w.ok(w.do(func() error {
			if len(w.groups) != 0 {
				t.Errorf("groups are left: %v", w.groups)
			}
			return nil
		}))
	})
}

// Members may share a prefix, and the detector says whose packets are whose: the
// manager tells it of each member's prefixes as they are, when one comes, is
// changed and goes.
func TestMembersShareAPrefix(t *testing.T) {
	play(t, Options{}, func(w *world) {
		shared := peerOf(9).AllowedIPs
		for n := byte(1); n <= 2; n++ {
			member := memberOf(n, "a")
			member.AllowedIPs = slices.Concat(member.AllowedIPs, shared)
			_, err := w.AddPeer(member)
			w.ok(err)
		}
		for n := byte(1); n <= 2; n++ {
			if got := w.detector.peer(address(n)).prefixes; len(got) != 2 || got[1] != shared[0] {
				t.Errorf("the detector knows prefixes %v of peer %d", got, n)
			}
		}
		w.send(detect.Egress, 9)
		w.are(Connected, 1, 2)
		w.ok(w.RemovePeer(key(1)))
		time.Sleep(threshold)
		w.is(2, Idle)
		w.send(detect.Egress, 9)
		w.is(2, Connected)
		w.ok(w.UpdatePeer(memberOf(2, "a")))
		if got := w.detector.peer(address(2)).prefixes; len(got) != 1 {
			t.Errorf("the detector still knows prefixes %v of peer 2", got)
		}
	})
}
