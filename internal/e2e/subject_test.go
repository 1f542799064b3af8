// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/pkg/detect"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// subject is lazybpf at work on Here's interface: the daemon, or its parts.
type subject interface {
	figures() figures
	park() // puts There to sleep
	stop() // again does nothing
}

// figures are what a test asks of There.
type figures struct {
	state, reason           string
	wakes                   uint64
	held, replayed, dropped uint64
}

// since is what has been counted after before.
func (f figures) since(before figures) figures {
	f.wakes -= before.wakes
	f.held -= before.held
	f.replayed -= before.replayed
	f.dropped -= before.dropped
	return f
}

// subjects are lazybpf on either hook: the daemon takes tcx where the kernel has it.
var subjects = map[string]func(testing.TB, *lab.Network, lazy.WakeMode) subject{
	"daemon": func(t testing.TB, n *lab.Network, wake lazy.WakeMode) subject {
		options := onHere(t, n)
		options.Wake = wake
		return run(t, n, options)
	},
	"clsact": func(t testing.TB, n *lab.Network, wake lazy.WakeMode) subject {
		return assemble(t, n, choice{attach: detect.AttachClsact, wake: wake})
	},
}

var wakeModes = map[string]lazy.WakeMode{"pass": lazy.WakePass, "hold": lazy.WakeHold}

// keepalive is what Here has for There in most tests: turning it on and off is work for lazybpf to do.
const keepalive = 25 * time.Second

// keepaliveOf is what the interface has for the peer.
func keepaliveOf(t testing.TB, h *lab.Host, peer wgtypes.Key) time.Duration {
	t.Helper()
	return deviceOf(t, h, peer).PersistentKeepaliveInterval
}

// deviceOf is what the interface says of the peer.
func deviceOf(t testing.TB, h *lab.Host, peer wgtypes.Key) wgtypes.Peer {
	t.Helper()
	device, err := h.Device()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range device.Peers {
		if p.PublicKey == peer {
			return p
		}
	}
	t.Fatalf("%s has no peer %s", h.Name, peer)
	return wgtypes.Peer{}
}

func awaitKeepalive(t testing.TB, n *lab.Network, want time.Duration) {
	t.Helper()
	await(t, "keepalive is "+want.String(), func() bool { return keepaliveOf(t, n.Here, n.There.PublicKey) == want })
}

// forget puts There to sleep and makes both sides forget their session: the next packet is the first of all.
func forget(t testing.TB, n *lab.Network, s subject) {
	t.Helper()
	// What is late of the traffic so far comes before the reply.
	if _, err := n.Here.Ping(soon(t), n.There.IPv4); err != nil {
		t.Fatal(err)
	}
	s.park()
	awaitKeepalive(t, n, 0) // or forgetting would put it back
	if err := n.ForgetSessions(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond) // as ForgetSessions says
}

// awaitWake waits until There is connected, and fails the test unless it was woken once by a packet to it, and what had been
// held has been sent: something in hold mode, nothing in pass mode.
func awaitWake(t testing.TB, s subject, before figures, mode lazy.WakeMode) {
	t.Helper()
	await(t, "There is connected", func() bool { return s.figures().state == lazy.Connected.String() })
	got := s.figures().since(before)
	want := figures{state: lazy.Connected.String(), reason: lazy.ReasonEgress.String(), wakes: 1}
	if mode == lazy.WakeHold {
		want.held, want.replayed = max(got.held, 1), max(got.held, 1)
	}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
