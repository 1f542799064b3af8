// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

// scanned is how many peers a scan meets.
const scanned = 10_000

// scan has many dormant peers, each of which meets a packet. Opens take a second.
func (w *world) scan() (peers []Peer) {
	w.Helper()
	w.connector.open = func(ctx context.Context, _ Key, _ Wake) error {
		select {
		case <-time.After(time.Second):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var ids []detect.ID
	for i := range uint16(scanned) {
		peer := Peer{AllowedIPs: []netip.Prefix{{}}}
		binary.BigEndian.PutUint16(peer.Key[:], i)
		_, err := w.AddPeer(peer)
		w.ok(err)
		peers = append(peers, peer)
		ids = append(ids, detect.ID(1<<32|uint64(i)))
	}
	for _, id := range ids {
		w.detector.events <- detect.Event{ID: id, Time: time.Now()}
	}
	synctest.Wait()
	return peers
}

// A scan over all dormant addresses opens no more peers at once than the limit
// says and no faster than the bucket allows, in the order in which it met them.
// It delays nobody who asks for a peer, and in the end all of them are open.
func TestScan(t *testing.T) {
	const opens, rate, burst = 64, 20, 40
	play(t, Options{
		MaxOpens: opens, WakeRate: rate, WakeBurst: burst, InactivityThreshold: time.Hour,
	}, func(w *world) {
		start := time.Now()
		peers := w.scan()
		const asked = scanned - 7
		time.Sleep(time.Minute)
		w.ok(w.ActivatePeer(peers[asked].Key))
		synctest.Wait()
		if n := w.connector.count("open", peers[asked].Key); n != 1 {
			t.Fatalf("the peer that somebody asks for has had %d Opens at once", n)
		}
		time.Sleep(scanned / rate * time.Second)

		all, err := w.Peers()
		w.ok(err)
		for _, s := range all {
			if s.State != Connected || s.Wakes != 1 {
				t.Fatalf("peer %s is %s after %d wakes", s.Key, s.State, s.Wakes)
			}
		}
		if w.connector.most > opens {
			t.Errorf("%d Opens at once, want %d at most", w.connector.most, opens)
		}
		calls := w.connector.all("open")
		slices.SortStableFunc(calls, func(a, b noted) int { // those that began at once
			return cmp.Or(a.at.Compare(b.at), bytes.Compare(a.peer[:], b.peer[:]))
		})
		calls = slices.DeleteFunc(calls, func(c noted) bool { return c.peer == peers[asked].Key })
		for i, c := range calls {
			if want := i + i/asked; c.peer != peers[want].Key {
				t.Fatalf("the %d. peer that was opened is %s", i, c.peer)
			}
			earliest := start.Add(time.Duration(max(i-burst+1, 0)) * time.Second / rate)
			if c.at.Before(earliest) || c.at.After(earliest.Add(time.Second)) {
				t.Fatalf("the %d. peer was opened after %s, want %s", i, c.at.Sub(start), earliest.Sub(start))
			}
		}
	})
}

// Without a bucket the number of Opens at once is what limits a scan.
func TestScanWithoutBucket(t *testing.T) {
	play(t, Options{InactivityThreshold: time.Hour}, func(w *world) {
		start := time.Now()
		w.scan()
		time.Sleep((scanned/DefaultMaxOpens+1)*time.Second - 1)
		if n := len(w.connector.all("open")); n != scanned {
			t.Errorf("%d of %d peers are opened", n, scanned)
		}
		if w.connector.most != DefaultMaxOpens {
			t.Errorf("%d Opens at once, want %d", w.connector.most, DefaultMaxOpens)
		}
		for i, c := range w.connector.all("open") {
			if want := time.Duration(i/DefaultMaxOpens) * time.Second; c.at.Sub(start) != want {
				t.Fatalf("the %d. peer was opened after %s, want %s", i, c.at.Sub(start), want)
			}
		}
	})
}

// What waits for a token is held: the packets that came meanwhile are sent
// when the peer is open.
func TestWaitsForTokenHeld(t *testing.T) {
	play(t, Options{WakeRate: 0.1, Wake: WakeHold, InactivityThreshold: time.Minute}, func(w *world) {
		w.add(1, 2, 3)
		w.send(detect.Egress, 1)
		w.is(1, Connected) // the bucket is full at first
		w.send(detect.Egress, 2)
		w.send(detect.Egress, 3)
		w.send(detect.Egress, 2)
		time.Sleep(10*time.Second - 1)
		w.are(Connecting, 2, 3)
		time.Sleep(time.Nanosecond)
		w.is(2, Connected)
		if a := w.status(2).Activity; a.Replayed != 2 || a.Dropped != 0 {
			t.Errorf("%d packets replayed, %d dropped, want 2 and 0", a.Replayed, a.Dropped)
		}
		time.Sleep(10*time.Second - 1)
		w.is(3, Connecting)
		time.Sleep(time.Nanosecond)
		w.is(3, Connected)
		if took := w.status(3).LastWake.Took; took != 20*time.Second {
			t.Errorf("the wake took %s, want 20 s", took)
		}
	})
}

// Group wakes take tokens, requests do not, and one that waits for a token does
// not once somebody asks for it.
func TestWhoNeedsToken(t *testing.T) {
	play(t, Options{WakeRate: 1.0 / 3600, WakeBurst: 2, InactivityThreshold: time.Hour}, func(w *world) {
		w.addTo("a", 1, 2, 3)
		w.add(4, 5, 6)
		w.ok(w.ActivatePeer(key(4)))
		w.exclude(5)
		w.connect(1)
		w.are(Connected, 2, 4, 5)
		w.is(3, Connecting)
		w.send(detect.Egress, 6)
		w.ok(w.ActivatePeer(key(3)))
		w.is(3, Connected)
		w.is(6, Connecting)
		w.ok(w.RemovePeer(key(6))) // before its turn
		time.Sleep(2 * time.Hour)
		w.opened(6, 0)
	})
}

// Closes have places of their own, as many as Opens.
func TestNeverMoreClosesAtOnce(t *testing.T) {
	play(t, Options{MaxOpens: 2}, func(w *world) {
		answers := newAnswers(w)
		w.connector.close = answers.deafClose
		for n := byte(1); n <= 5; n++ {
			w.addConnected(n)
			time.Sleep(time.Second)
		}
		w.add(6)
		time.Sleep(threshold)
		w.are(Idle, 1, 2, 3, 4, 5)
		if got := w.connector.all("close"); len(got) != 2 || got[0].peer != key(1) || got[1].peer != key(2) {
			t.Fatalf("Closes: %v", got)
		}
		w.connect(6) // an Open has another place
		w.connect(4) // its Close has not begun and is needless now
		for range 4 {
			answers.give(w, nil)
		}
		w.closed(3, 1)
		w.closed(4, 0)
		w.closed(5, 1)
	})
}

// A connector that blocks for ever, in whatever call, delays no other peer. Those
// that run out of time make room.
func TestBlockedCallsDelayNobodyElse(t *testing.T) {
	for _, blocks := range []string{"open", "close", "evict"} {
		t.Run(blocks, func(t *testing.T) {
			play(t, Options{MaxOpens: 2, OpenTimeout: openTimeout, EvictAfter: MinEvictAfter}, func(w *world) {
				answers := newAnswers(w)
				block := func(name string, peer Key) error {
					if name == blocks && peer[0] <= 2 {
						return <-answers
					}
					return nil
				}
				w.connector.open = func(_ context.Context, peer Key, _ Wake) error {
					return block("open", peer)
				}
				w.connector.close = func(_ context.Context, peer Key) error {
					return block("close", peer)
				}
				w.connector.evict = func(_ context.Context, peer Key) (again time.Time, err error) {
					return again, block("evict", peer)
				}
				w.add(1, 2, 3, 4)
				for n := byte(1); n <= 4; n++ {
					w.send(detect.Egress, n)
				}
				if blocks == "open" { // all places are taken
					w.are(Connecting, 3, 4)
					time.Sleep(openTimeout)
				}
				w.are(Connected, 3, 4)
				start := time.Now()
				time.Sleep(threshold + MinEvictAfter + 2*openTimeout)
				for n := byte(3); n <= 4; n++ {
					w.closed(n, 1)
					w.called("evict", n, 1)
					late := w.connector.of("evict", key(n))[0].at.Sub(start) - threshold - MinEvictAfter
					if late > openTimeout || late > 0 && blocks == "open" {
						t.Errorf("peer %d was evicted %s late", n, late)
					}
				}
				w.closesWithin(time.Second)
			})
		})
	}
}

// A Close that was overdue makes room, and the peer waits for it all the same.
func TestOverdueCloseMakesRoom(t *testing.T) {
	play(t, Options{MaxOpens: 1, OpenTimeout: openTimeout}, func(w *world) {
		answers := newAnswers(w)
		w.connector.close = func(ctx context.Context, peer Key) error {
			if peer == key(1) {
				return answers.deafClose(ctx, peer)
			}
			return nil
		}
		w.addConnected(1)
		w.addConnected(2)
		w.ok(w.DeactivatePeer(key(1)))
		w.ok(w.DeactivatePeer(key(2)))
		time.Sleep(openTimeout - 1)
		w.closed(2, 0)
		time.Sleep(time.Nanosecond)
		w.closed(2, 1)
		w.fails(w.status(1).LastError, ErrTimeout)
		w.send(detect.Egress, 1)
		w.is(1, Connecting)
		answers.give(w, nil)
		w.is(1, Connected)
	})
}
