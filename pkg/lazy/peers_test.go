// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"testing"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

func TestAddPeer(t *testing.T) {
	play(t, Options{}, func(w *world) {
		excluded, err := w.AddPeer(peerOf(1))
		w.ok(err)
		if excluded {
			w.Error("a peer on no list is said to be excluded")
		}
		w.is(1, Idle)
		w.opened(1, 0)
		w.closed(1, 0)

		_, err = w.AddPeer(peerOf(1))
		w.fails(err, ErrPeerExists)
		w.fails(w.AddActivePeers(peerOf(1)), ErrPeerExists)
		w.is(1, Idle)

		w.detector.refuse = errRefused
		_, err = w.AddPeer(peerOf(2))
		w.fails(err, errRefused)
		_, err = w.Peer(key(2))
		w.fails(err, ErrUnknownPeer)
	})
}

func TestAddActivePeers(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.ok(w.AddActivePeers())
		err := w.AddActivePeers(peerOf(1), peerOf(2), peerOf(1), peerOf(3))
		w.fails(err, ErrPeerExists)
		for n := byte(1); n <= 2; n++ {
			w.is(n, Connected)
			w.opened(n, 0) // it is open already
			if wake := w.status(n).LastWake; wake.Reason != ReasonStart || !wake.Time.Equal(time.Now()) {
				w.Errorf("peer %d is connected by %s since %s", n, wake.Reason, wake.Time)
			}
		}
		_, err = w.Peer(key(3))
		w.fails(err, ErrUnknownPeer)
		w.parksAfter(1, threshold)
		w.is(2, Idle)
	})
}

func TestUnknownPeer(t *testing.T) {
	play(t, Options{}, func(w *world) {
		_, err := w.Peer(key(1))
		w.fails(err, ErrUnknownPeer)
		w.fails(w.UpdatePeer(peerOf(1)), ErrUnknownPeer)
		w.fails(w.RemovePeer(key(1)), ErrUnknownPeer)
		w.fails(w.ActivatePeer(key(1)), ErrUnknownPeer)
		w.fails(w.DeactivatePeer(key(1)), ErrUnknownPeer)
	})
}

// Bug 10: a too-low threshold silently became the default.
func TestBug10LowThresholdIsRefused(t *testing.T) {
	for _, low := range []time.Duration{-time.Hour, 1, MinThreshold - 1} {
		_, err := New(Options{
			Detector: newFakeDetector(), Connector: newFakeConnector(t), InactivityThreshold: low,
		})
		if err == nil {
			t.Errorf("New accepts a threshold of %s", low)
		}
		play(t, Options{}, func(w *world) {
			w.addConnected(1)
			peer := peerOf(1)
			peer.Threshold = low
			w.fails(w.UpdatePeer(peer), ErrThreshold)
			if got := w.status(1).Threshold; got != 0 {
				w.Errorf("the threshold has become %s", got)
			}
			w.parksAfter(1, threshold)

			peer = peerOf(2)
			peer.Threshold = low
			_, err := w.AddPeer(peer)
			w.fails(err, ErrThreshold)
			w.fails(w.AddActivePeers(peer), ErrThreshold)
			_, err = w.Peer(key(2))
			w.fails(err, ErrUnknownPeer)
		})
	}
}

func TestUpdatePeerMovesPrefixes(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.add(1)
		peer := peerOf(1)
		peer.AllowedIPs = peerOf(2).AllowedIPs
		w.ok(w.UpdatePeer(peer))
		w.send(detect.Egress, 1)
		w.is(1, Idle)
		w.send(detect.Egress, 2)
		w.is(1, Connected)
		if got := w.status(1).AllowedIPs; len(got) != 1 || got[0] != peer.AllowedIPs[0] {
			w.Errorf("allowed IPs are %s", got)
		}

		w.detector.refuse = errRefused
		w.fails(w.UpdatePeer(peerOf(1)), errRefused)
		if got := w.status(1).AllowedIPs; got[0] != peer.AllowedIPs[0] {
			w.Errorf("allowed IPs have changed to %s", got)
		}
	})
}

// A dormant peer's next packet is treated as the mode says that it has then.
func TestUpdatePeerChangesWakeMode(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.add(1)
		for _, tc := range []struct {
			mode WakeMode
			gate gate
		}{{WakeHold, gateArmedHold}, {WakeDefault, gateArmed}, {WakeHold, gateArmedHold}} {
			peer := peerOf(1)
			peer.Wake = tc.mode
			w.ok(w.UpdatePeer(peer))
			if g := w.detector.peer(address(1)).gate; g != tc.gate {
				w.Errorf("in mode %d the gate is %b, want %b", tc.mode, g, tc.gate)
			}
		}
		w.connect(1)
		if a := w.status(1).Activity; a.Held != 1 {
			w.Errorf("%d packets held, want 1", a.Held)
		}
		w.ok(w.UpdatePeer(peerOf(1)))
		if g := w.detector.peer(address(1)).gate; g != gateOpen {
			w.Errorf("gate of a connected peer is %b", g)
		}
	})
}

// An event that is on its way while the mode changes still wakes the peer.
func TestUpdatePeerLosesNoWake(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.add(1)
		id, _ := w.detector.find(address(1))
		event := detect.Event{ID: id, Time: time.Now()}
		time.Sleep(time.Millisecond)
		peer := peerOf(1)
		peer.Wake = WakeHold
		w.ok(w.UpdatePeer(peer))
		w.detector.events <- event
		w.is(1, Connected)
	})
}

// While a peer is left alone its packets pass, whatever its mode.
func TestUpdatePeerDoesNotEndBackOff(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.connector.open = refuse
		w.add(1)
		w.send(detect.Egress, 1)
		peer := peerOf(1)
		peer.Wake = WakeHold
		w.ok(w.UpdatePeer(peer))
		w.backsOff(1, 1)
		w.sleepBackOff(1)
		if g := w.detector.peer(address(1)).gate; g != gateArmedHold {
			w.Errorf("gate is %b", g)
		}
	})
}

// Bug 18: reinstalling state triggered a wake of its own.
func TestBug18ReinstallingWakesNobody(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.add(1)
		w.addConnected(2)
		w.addConnected(3)
		w.exclude(3)
		time.Sleep(time.Second)
		arms := w.detector.arms
		for range 3 {
			for n := byte(1); n <= 3; n++ {
				w.ok(w.UpdatePeer(peerOf(n)))
			}
			if added := w.exclude(3); len(added) != 0 {
				w.Errorf("a peer that was on the list is said to be new on it")
			}
		}
		w.is(1, Idle)
		if len(w.connector.calls) != 0 || w.detector.arms != arms {
			w.Errorf("the connector was called %d times, %d gates were set", len(w.connector.calls), w.detector.arms-arms)
		}
		w.parksAfter(2, threshold-time.Second) // that is no activity, either
	})
}
