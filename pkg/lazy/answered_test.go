// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"context"
	"slices"
	"testing"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

// A peer that comes by itself while it is being looked for.
func TestAnswered(t *testing.T) {
	if Answered(t.Context()) {
		t.Error("nobody was asked, and has answered")
	}
	for mode, name := range map[WakeMode]string{WakePass: "pass", WakeHold: "hold"} {
		t.Run(name, func(t *testing.T) {
			play(t, Options{Wake: mode}, func(w *world) {
				var inOpen context.Context
				answers := newAnswers(w)
				w.connector.open = func(ctx context.Context, peer Key, wake Wake) error {
					inOpen = ctx
					return answers.open(ctx, peer, wake)
				}
				w.add(1)
				w.send(detect.Ingress, 1) // that it came before is no answer
				answers.give(w, nil)
				w.ok(w.DeactivatePeer(key(1)))
				w.is(1, Idle)

				w.send(detect.Egress, 1)
				w.is(1, Connecting)
				if Answered(inOpen) {
					w.Error("it has answered before it did")
				}
				w.send(detect.Egress, 1)
				if Answered(inOpen) {
					w.Error("a packet to it is no answer")
				}
				w.send(detect.Ingress, 1)
				derived, cancel := context.WithCancel(inOpen)
				defer cancel()
				if !Answered(derived) {
					w.Error("it has answered, and nobody knows")
				}
				answers.give(w, nil)
			})
		})
	}
}

// A connection that breaks and is back is no wake.
func TestReportsAreNoWakes(t *testing.T) {
	play(t, Options{}, func(w *world) {
		w.add(1)
		w.connect(1)
		changes, err := w.Subscribe()
		w.ok(err)
		w.ok(w.ReportDisconnected(key(1)))
		w.ok(w.ReportConnected(key(1)))
		w.ok(w.DeactivatePeer(key(1)))
		w.ok(w.ActivatePeer(key(1)))
		w.is(1, Connected)
		changes.Close()
		var reasons []Reason
		for c := range changes.All(t.Context()) {
			reasons = append(reasons, c.Wake.Reason)
		}
		want := []Reason{0, 0, 0, ReasonRequest, ReasonRequest} // broke, back, slept, woke, was connected
		if !slices.Equal(reasons, want) {
			w.Errorf("reasons %d, want %d", reasons, want)
		}
	})
}
