// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"slices"
	"testing"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

// ntp is a rule as somebody may have it.
var ntp = detect.Rule{Effect: detect.Ignored, Protocol: 17, Ports: detect.PortRange{First: 123, Last: 123}}

// wantRules fails the test unless the detector has these rules for peer 1.
func (w *world) wantRules(want ...detect.Rule) {
	w.Helper()
	if got := w.detector.peer(address(1)).rules; !slices.Equal(got, want) {
		w.Errorf("the detector has the rules %v, want %v", got, want)
	}
}

func TestRules(t *testing.T) {
	play(t, Options{}, func(w *world) {
		peer := peerOf(1)
		peer.Rules = []detect.Rule{ntp}
		_, err := w.AddPeer(peer)
		w.ok(err)
		w.wantRules(ntp)

		for _, rules := range [][]detect.Rule{{{Effect: 4}}, make([]detect.Rule, detect.MaxRules+1)} {
			bad := peer
			bad.Rules = rules
			w.fails(w.UpdatePeer(bad), detect.ErrRule)
			bad.Key = key(2)
			_, err := w.AddPeer(bad)
			w.fails(err, detect.ErrRule)
		}
		w.wantRules(ntp)
		if all, err := w.Peers(); err != nil || len(all) != 1 || len(w.detector.peers) != 1 {
			w.Errorf("%d peers, of which the detector has %d, error %v", len(all), len(w.detector.peers), err)
		}

		peer.Rules = nil
		w.detector.refuse = errRefused
		w.fails(w.UpdatePeer(peer), errRefused)
		w.wantRules(ntp)
		w.detector.refuse = nil
		w.ok(w.UpdatePeer(peer))
		w.wantRules()
	})
}

// Packets that do not keep a peer awake by its rules count, but not as activity.
func TestIgnoredPacketsKeepNobodyAwake(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.add(1)
		w.connect(1)
		ignored := func(id detect.ID) {
			w.ok(w.detector.with(id, func(p *fakePeer) { p.activity.RxPackets++ }))
		}
		id, _ := w.detector.find(address(1))
		w.detector.beforeArm, w.detector.afterArm = ignored, ignored
		for range threshold / time.Second {
			w.is(1, Connected)
			ignored(id)
			time.Sleep(time.Second)
		}
		w.is(1, Idle)
		w.closed(1, 1)
	})
}
