// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"errors"
	"maps"
	"slices"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

func (w *walk) actions() map[string]func(*rapid.T) {
	actions := map[string]func(*rapid.T){
		"add":        w.add,
		"addActive":  w.addActive,
		"update":     w.update,
		"remove":     w.remove,
		"activate":   w.activate,
		"deactivate": w.deactivate,
		"exclude":    w.exclude,
		"packet":     w.packet,
		"packet2":    w.packet, // more often than others
		"oldEvent":   w.oldEvent,
		"race":       w.raceNext,
		"behave":     w.behave,
		"answer":     w.answer,
		"answer2":    w.answer,
		"sleep":      w.sleep,
		"sleep2":     w.sleep,
	}
	for name, action := range actions {
		actions[name] = func(t *rapid.T) {
			// No two steps, and nothing that follows from them, at the same time.
			w.pass(1)
			action(t)
			synctest.Wait()
			w.model.expire()
			w.steps++
		}
	}
	actions[""] = func(*rapid.T) { w.compare() }
	return actions
}

func (w *walk) draw() byte { return rapid.SampledFrom(numbers).Draw(w.T, "peer") }

// wants fails the walk if a method returned another error than this one.
func (w *walk) wants(err, want error) {
	w.Helper()
	if !errors.Is(err, want) {
		w.Fatalf("error is %v, want %v", err, want)
	}
}

// known says whether there is such a peer, and checks what a method said of it.
func (w *walk) known(n byte, err error) bool {
	w.Helper()
	if w.model.peers[n] == nil {
		w.wants(err, ErrUnknownPeer)
		return false
	}
	w.wants(err, nil)
	return true
}

func (w *walk) add(*rapid.T) {
	n := w.draw()
	excluded, err := w.manager.AddPeer(peerOf(n))
	if w.model.peers[n] != nil {
		w.wants(err, ErrPeerExists)
		return
	}
	w.wants(err, nil)
	w.model.add(n, false)
	if excluded != w.model.excluded[n] {
		w.Fatalf("peer %d: AddPeer says excluded: %t", n, excluded)
	}
}

func (w *walk) addActive(*rapid.T) {
	n := w.draw()
	err := w.manager.AddActivePeers(peerOf(n))
	if w.model.peers[n] != nil {
		w.wants(err, ErrPeerExists)
		return
	}
	w.wants(err, nil)
	w.model.add(n, true)
}

func (w *walk) update(t *rapid.T) {
	peer := peerOf(w.draw())
	peer.Threshold = rapid.SampledFrom([]time.Duration{0, time.Second, time.Minute}).Draw(t, "threshold")
	peer.Wake = rapid.SampledFrom([]WakeMode{WakeDefault, WakePass, WakeHold}).Draw(t, "wake")
	if w.known(peer.Key[0], w.manager.UpdatePeer(peer)) {
		threshold := peer.Threshold
		if threshold == 0 {
			threshold = w.model.options.InactivityThreshold
		}
		w.model.update(peer.Key[0], threshold, peer.Wake == WakeHold)
	}
}

func (w *walk) remove(*rapid.T) {
	n := w.draw()
	if w.known(n, w.manager.RemovePeer(key(n))) {
		w.model.remove(n)
	}
}

func (w *walk) activate(*rapid.T) {
	n := w.draw()
	if w.known(n, w.manager.ActivatePeer(key(n))) {
		w.model.activate(n)
	}
}

func (w *walk) deactivate(*rapid.T) {
	n := w.draw()
	err := w.manager.DeactivatePeer(key(n))
	if w.model.peers[n] == nil {
		w.wants(err, ErrUnknownPeer)
		return
	}
	synctest.Wait() // its Close may be next
	if w.model.deactivate(n); w.model.peers[n].state == Idle {
		w.wants(err, nil)
	} else {
		w.wants(err, ErrStaysAwake)
	}
}

func (w *walk) exclude(t *rapid.T) {
	list := rapid.SliceOfN(rapid.SampledFrom(numbers), 0, 3).Draw(t, "excluded")
	var keys []Key
	for _, n := range list {
		keys = append(keys, key(n))
	}
	added, err := w.manager.SetExcluded(keys)
	w.wants(err, nil)
	var got []byte
	for _, k := range added {
		got = append(got, k[0])
	}
	if want := w.model.exclude(list); !slices.Equal(got, want) {
		w.Fatalf("newly excluded are %d, want %d", got, want)
	}
}

func (w *walk) direction(t *rapid.T) detect.Direction {
	return rapid.SampledFrom([]detect.Direction{detect.Egress, detect.Ingress}).Draw(t, "direction")
}

func (w *walk) packet(t *rapid.T) {
	n, direction := w.draw(), w.direction(t)
	w.detector.send(direction, address(n))
	w.model.packet(n, direction)
}

// oldEvent is one from before all that has happened to the peer.
func (w *walk) oldEvent(*rapid.T) {
	id, _ := w.detector.find(address(w.draw()))
	w.detector.events <- detect.Event{ID: id, Time: time.Now().Add(-24 * 365 * time.Hour)}
}

// raceNext lets packets pass while the peer is armed, the next time that it is.
func (w *walk) raceNext(t *rapid.T) {
	n := w.draw()
	r := race{w.direction(t), rapid.Bool().Draw(t, "before"), rapid.Bool().Draw(t, "after")}
	w.model.races[n] = r
	w.mu.Lock()
	defer w.mu.Unlock()
	w.races[n] = r
}

// behave changes the connector's manners with a peer, from its next call on.
func (w *walk) behave(t *rapid.T) {
	n := w.draw()
	manners := rapid.SampledFrom([]manners{succeeds, fails, obeys, deaf}).Draw(t, "manners")
	w.model.manners[n] = manners
	w.mu.Lock()
	defer w.mu.Unlock()
	w.manners[n] = manners
}

// answer ends a connector call that waits.
func (w *walk) answer(t *rapid.T) {
	waiting := slices.Sorted(maps.Keys(w.model.calls))
	if len(waiting) == 0 {
		return
	}
	n := rapid.SampledFrom(waiting).Draw(t, "call")
	err := rapid.SampledFrom([]error{nil, errRefused}).Draw(t, "answer")
	w.mu.Lock()
	answer := w.waiting[n]
	w.mu.Unlock()
	answer <- err
	w.model.answer(n, err)
}

func (w *walk) sleep(t *rapid.T) {
	w.pass(rapid.SampledFrom([]time.Duration{
		time.Millisecond, 400 * time.Millisecond, time.Second, 9 * time.Second, 21 * time.Second,
		time.Minute, 10 * time.Minute,
	}).Draw(t, "sleep"))
}

// pass lets time pass, and stops whenever something happens.
func (w *walk) pass(d time.Duration) {
	end := w.model.now.Add(d)
	for {
		next := w.model.next()
		if next.IsZero() || next.After(end) {
			next = end
		}
		time.Sleep(time.Until(next))
		synctest.Wait()
		w.model.now = time.Now()
		w.model.expire()
		if next.Equal(end) {
			return
		}
		w.compare()
	}
}
