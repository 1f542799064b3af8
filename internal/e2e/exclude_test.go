// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/pkg/control"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// TestExclude has There on the exclude list, off it and on it again. On it There has its keepalive and never sleeps, and its
// packets do not wait.
func TestExclude(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{Keepalive: keepalive})
	other := stranger(t)
	configurePeer(t, n.Here, wgtypes.PeerConfig{PublicKey: other, PersistentKeepaliveInterval: new(keepalive)})
	options := onHere(t, n)
	options.InactivityThreshold = threshold
	options.Wake = lazy.WakeHold
	options.Exclude = []string{n.There.IPv4.String()}
	r := run(t, n, options)

	staysAwake := func() {
		t.Helper()
		await(t, "There is permanent and connected", func() bool {
			p := r.there()
			return p.Permanent && p.State == control.StateConnected
		})
		if _, err := n.Here.Ping(soon(t), n.There.IPv6); err != nil {
			t.Fatal(err)
		}
		before := r.figures()
		// A peer that is no more silent than There sleeps in the end.
		if _, err := r.client.Wake(soon(t), []string{other.String()}); err != nil {
			t.Fatal(err)
		}
		await(t, "the other peer is asleep", func() bool {
			p, _ := r.find(other.String())
			return p.State == control.StateIdle
		})
		if _, err := n.Here.Ping(soon(t), n.There.IPv4); err != nil {
			t.Fatal(err)
		}
		if after := r.figures(); after != before {
			t.Errorf("%+v after some silence, %+v before", after, before)
		}
		if got := keepaliveOf(t, n.Here, n.There.PublicKey); got != keepalive {
			t.Errorf("keepalive %v of an excluded peer, want %v", got, keepalive)
		}
	}
	staysAwake()

	r.command(r.client.Include)
	r.awaitThere(control.StateIdle)
	awaitKeepalive(t, n, 0)
	wakes := r.figures().wakes
	if _, err := n.Here.Ping(soon(t), n.There.IPv4); err != nil {
		t.Fatal(err)
	}
	awaitWakes(t, r, wakes+1, "egress")

	r.awaitThere(control.StateIdle)
	r.command(r.client.Exclude)
	staysAwake()
}
