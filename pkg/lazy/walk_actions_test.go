// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"errors"
	"maps"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

func (w *walk) actions() map[string]func(*rapid.T) {
	actions := map[string]func(*rapid.T){
		"add":          w.add,
		"addActive":    w.addActive,
		"update":       w.update,
		"remove":       w.remove,
		"activate":     w.activate,
		"deactivate":   w.deactivate,
		"connected":    w.reportConnected,
		"disconnected": w.reportDisconnected,
		"exclude":      w.exclude,
		"groups":       w.setGroups,
		"options":      w.setOptions,
		"packet":       w.packet,
		"packet2":      w.packet, // more often than others
		"oldEvent":     w.oldEvent,
		"race":         w.raceNext,
		"behave":       w.behave,
		"answer":       w.answer,
		"answer2":      w.answer,
		"sleep":        w.sleep,
		"sleep2":       w.sleep,
	}
	for name, action := range actions {
		actions[name] = func(t *rapid.T) {
			// No two steps, and nothing that follows from them, at the same time.
			w.pass(10)
			action(t)
			w.learn()
			w.model.elapse()
			w.steps++
		}
	}
	actions[""] = func(*rapid.T) { w.compare() }
	return actions
}

var groupNames = []string{"a", "b"}

func (w *walk) draw() byte { return rapid.SampledFrom(numbers).Draw(w.T, "peer") }

// drawPeer draws a peer and what it is told to be.
func (w *walk) drawPeer() Peer {
	peer := peerOf(w.draw())
	peer.Threshold = pick(w, "threshold", 0, 0, time.Second, time.Minute)
	peer.Wake = pick(w, "wake", WakeDefault, WakePass, WakeHold)
	peer.Groups = rapid.SliceOfN(rapid.SampledFrom(groupNames), 0, 2).Draw(w.T, "groups")
	return peer
}

func (w *walk) options() Options {
	return Options{
		OpenTimeout:         openTimeout,
		InactivityThreshold: pick(w, "threshold", threshold, 25*time.Second),
		Wake:                pick(w, "wake", WakePass, WakeHold),
		MaxOpens:            pick(w, "opens", 1, 2, 3),
		WakeRate:            pick(w, "rate", 0, 0.3, 3),
		WakeBurst:           pick(w, "burst", 0, 1, 3),
		EvictAfter:          pick(w, "evict", 0, MinEvictAfter, 5*time.Minute),
	}
}

func pick[V any](w *walk, label string, values ...V) V {
	return rapid.SampledFrom(values).Draw(w.T, label)
}

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
	w.learn()
	if w.model.peers[n] == nil {
		w.wants(err, ErrUnknownPeer)
		return false
	}
	w.wants(err, nil)
	return true
}

func (w *walk) add(*rapid.T) {
	peer := w.drawPeer()
	excluded, err := w.manager.AddPeer(peer)
	if w.added(peer, err) {
		w.model.add(peer, false)
		if excluded != w.model.excluded[peer.Key[0]] {
			w.Fatalf("peer %d: AddPeer says excluded: %t", peer.Key[0], excluded)
		}
	}
}

func (w *walk) addActive(*rapid.T) {
	peer := w.drawPeer()
	if w.added(peer, w.manager.AddActivePeers(peer)) {
		w.model.add(peer, true)
	}
}

// added says whether the peer is new, and checks what a method said of it.
func (w *walk) added(peer Peer, err error) bool {
	w.learn()
	if w.model.peers[peer.Key[0]] != nil {
		w.wants(err, ErrPeerExists)
		return false
	}
	w.wants(err, nil)
	return true
}

func (w *walk) update(*rapid.T) {
	if peer := w.drawPeer(); w.known(peer.Key[0], w.manager.UpdatePeer(peer)) {
		w.model.update(peer)
	}
}

func (w *walk) remove(*rapid.T) {
	if n := w.draw(); w.known(n, w.manager.RemovePeer(key(n))) {
		w.model.remove(n)
	}
}

func (w *walk) activate(*rapid.T) {
	if n := w.draw(); w.known(n, w.manager.ActivatePeer(key(n))) {
		w.model.activate(n)
	}
}

func (w *walk) reportConnected(*rapid.T) {
	if n := w.draw(); w.known(n, w.manager.ReportConnected(key(n))) {
		w.model.reportConnected(n)
	}
}

func (w *walk) reportDisconnected(*rapid.T) {
	if n := w.draw(); w.known(n, w.manager.ReportDisconnected(key(n))) {
		w.model.reportDisconnected(n)
		w.setRace(n, race{}) // nobody knows whether its Close or the event comes first
	}
}

func (w *walk) deactivate(*rapid.T) {
	n := w.draw()
	err := w.manager.DeactivatePeer(key(n))
	w.learn()
	switch {
	case w.model.peers[n] == nil:
		w.wants(err, ErrUnknownPeer)
	case w.model.deactivate(n):
		w.wants(err, nil)
	default:
		w.wants(err, ErrStaysAwake)
	}
}

func (w *walk) exclude(t *rapid.T) {
	list := rapid.SliceOfN(rapid.SampledFrom(numbers), 0, 3).Draw(t, "excluded")
	added, err := w.manager.SetExcluded(keys(list))
	w.wants(err, nil)
	w.learn()
	if want := keys(w.model.exclude(list)); !slices.Equal(added, want) {
		w.Fatalf("newly excluded are %v, want %v", added, want)
	}
}

func keys(numbers []byte) (all []Key) {
	for _, n := range numbers {
		all = append(all, key(n))
	}
	return all
}

// setGroups gives groups to peers, one of which there may be none.
func (w *walk) setGroups(t *rapid.T) {
	members, byKey := make(map[string][]byte), make(map[string][]Key)
	var want error
	for _, name := range groupNames {
		members[name] = rapid.SliceOfN(rapid.SampledFrom(numbers), 0, 3).Draw(t, name)
		byKey[name] = keys(members[name])
		for _, n := range members[name] {
			if w.model.peers[n] == nil {
				want = ErrUnknownPeer
			}
		}
	}
	w.wants(w.manager.SetGroups(byKey), want)
	w.learn()
	if want == nil {
		w.model.setGroups(members)
	}
}

// setOptions lets gates be set for another wake mode, and then, by itself, for
// peers to be evicted: so the order in which that is done can be told.
func (w *walk) setOptions(*rapid.T) {
	options := w.options()
	evictAfter := options.EvictAfter
	options.EvictAfter = w.model.options.EvictAfter
	for range 2 {
		w.wants(w.manager.SetOptions(options), nil)
		w.learn()
		w.model.setOptions(options)
		w.model.elapse()
		options.EvictAfter = evictAfter
	}
}

func (w *walk) packet(*rapid.T) {
	n, direction := w.draw(), pick(w, "direction", detect.Egress, detect.Ingress)
	w.detector.send(direction, address(n))
	w.learn()
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
	r := race{
		pick(w, "direction", detect.Egress, detect.Ingress),
		rapid.Bool().Draw(t, "before"), rapid.Bool().Draw(t, "after"),
	}
	if p := w.model.peers[n]; p == nil || !p.lost {
		w.setRace(n, r)
	}
}

func (w *walk) setRace(n byte, r race) {
	w.model.races[n] = r
	w.mu.Lock()
	defer w.mu.Unlock()
	w.races[n] = r
}

// behave changes the connector's manners with a peer, from its next call on.
func (w *walk) behave(*rapid.T) {
	n, manners := w.draw(), pick(w, "manners", succeeds, fails, notYet, obeys, deaf)
	w.model.manners[n] = manners
	w.mu.Lock()
	defer w.mu.Unlock()
	w.manners[n] = manners
}

// answer ends a connector call that waits.
func (w *walk) answer(*rapid.T) {
	waiting := slices.Sorted(maps.Keys(w.model.calls))
	if len(waiting) == 0 {
		return
	}
	n, err := pick(w, "call", waiting...), pick(w, "answer", nil, errRefused)
	w.mu.Lock()
	answer := w.waiting[n]
	w.mu.Unlock()
	answer <- err
	w.learn()
	w.model.answer(n, err)
}

func (w *walk) sleep(*rapid.T) {
	w.pass(pick(w, "sleep",
		time.Millisecond, 400*time.Millisecond, time.Second, 9*time.Second, 21*time.Second,
		time.Minute, 10*time.Minute,
	))
}
