// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"slices"
	"testing"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/pkg/detect"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// TestBurst sends many datagrams while the peer is being opened, and some more in the moment in which it is open.
func TestBurst(t *testing.T) {
	const burst, more = 100, 20 // together less than WireGuard itself keeps during a handshake
	for name, attach := range map[string]detect.Attach{"best": detect.AttachAuto, "clsact": detect.AttachClsact} {
		t.Run(name, func(t *testing.T) {
			n := labtest.Network(t, lab.Options{})
			e := serveEcho(t, n)
			door := newDoor()
			a := assemble(t, n, choice{attach: attach, wake: lazy.WakeHold, between: door.between})
			s, tap := newStream(t, n, e.IPv4), newTap(t, n)
			for i := range uint32(burst) {
				s.send(i)
			}
			<-door.opening
			if got, want := a.figures(), (figures{state: "connecting", reason: "egress", held: burst}); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
			close(door.open)
			for i := range uint32(more) {
				s.send(burst + i)
			}
			s.await(burst + more - 1)
			s.finish(burst + more)
			if passed := tap.numbers(); !slices.IsSorted(passed) || len(passed) != burst+more+1 {
				t.Errorf("%d passed, in the order %d", len(passed), passed)
			}
			awaitWake(t, a, figures{}, lazy.WakeHold)
		})
	}
}
