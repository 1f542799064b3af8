// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"slices"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/pkg/detect"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// TestStop ends a daemon with There awake and two strangers asleep, one of which never had a keepalive: all have again what
// they had before.
func TestStop(t *testing.T) {
	n := labtest.Network(t, lab.Options{Keepalive: keepalive})
	before := map[wgtypes.Key]time.Duration{stranger(t): 20 * time.Second, stranger(t): 0}
	for key, interval := range before {
		configurePeer(t, n.Here, wgtypes.PeerConfig{PublicKey: key, PersistentKeepaliveInterval: &interval})
	}
	before[n.There.PublicKey] = keepalive
	options := onHere(t, n)
	options.Wake = lazy.WakeHold
	checkTraces(t, options)
	r := run(t, n, options)
	r.command(r.client.Wake)
	for key := range before {
		want := time.Duration(0)
		if key == n.There.PublicKey {
			want = keepalive
		}
		if got := keepaliveOf(t, n.Here, key); got != want {
			t.Errorf("keepalive %v while the daemon runs, want %v", got, want)
		}
	}
	checkTraces(t, options, slices.Concat(hooksOf(r), inFiles, parking)...)

	r.stop()
	checkTraces(t, options)
	for key, want := range before {
		if got := keepaliveOf(t, n.Here, key); got != want {
			t.Errorf("keepalive %v after the daemon, want %v as before", got, want)
		}
	}
	if _, err := n.Here.Ping(soon(t), n.There.IPv4); err != nil {
		t.Error(err)
	}
}

// hooksOf are the traces of the daemon's hooks.
func hooksOf(r *running) []string {
	if r.status().Attach == "tcx" {
		return onTCX
	}
	return onClsact
}

// TestStopSendsWhatIsHeld ends lazybpf while packets wait for a peer that is being opened: they are sent, in order.
func TestStopSendsWhatIsHeld(t *testing.T) {
	const packets = 10
	for name, attach := range map[string]detect.Attach{"best": detect.AttachAuto, "clsact": detect.AttachClsact} {
		t.Run(name, func(t *testing.T) {
			n := labtest.Network(t, lab.Options{})
			e := serveEcho(t, n)
			door := newDoor()
			a := assemble(t, n, choice{attach: attach, wake: lazy.WakeHold, between: door.between})
			s, tap := newStream(t, n, e.IPv4), newTap(t, n)
			for i := range uint32(packets) {
				s.send(i)
			}
			<-door.opening
			if passed := tap.numbers(); len(passed) != 0 {
				t.Errorf("%d passed before the peer was opened", passed)
			}
			a.stop()
			s.await(packets - 1)
			s.finish(packets)
			if passed := tap.numbers(); !slices.IsSorted(passed) || len(passed) != packets+1 {
				t.Errorf("%d passed", passed)
			}
			checkTraces(t, onHere(t, n))
		})
	}
}
