// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/internal/vt"
	"github.com/lazybpf/lazybpf/pkg/control"
)

// runDaemon runs `lazybpf run` on an interface until the test ends or stop is called, and returns when it answers.
func runDaemon(t *testing.T, iface string, flags ...string) (stop func()) {
	t.Helper()
	cmd := exec.Command("lazybpf", append([]string{"run", iface}, flags...)...)
	var log strings.Builder
	cmd.Stderr = &log
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		_ = cmd.Process.Signal(unix.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("lazybpf run: %v\n%s", err, log.String())
		}
	}
	t.Cleanup(stop)
	soon(t, "the daemon answers", func() bool {
		_, err := control.NewClient(control.Path(iface)).Status(t.Context(), control.Filter{})
		return err == nil
	})
	return stop
}

// addPeer adds a peer that is never there.
func addPeer(t *testing.T, n *lab.Network, key, prefix string) {
	t.Helper()
	parsed, err := wgtypes.ParseKey(key)
	if err != nil {
		t.Fatal(err)
	}
	_, allowed, err := net.ParseCIDR(prefix)
	if err != nil {
		t.Fatal(err)
	}
	peer := wgtypes.PeerConfig{PublicKey: parsed, AllowedIPs: []net.IPNet{*allowed}}
	if err := n.Here.Configure(wgtypes.Config{Peers: []wgtypes.PeerConfig{peer}}); err != nil {
		t.Fatal(err)
	}
}

func types(t *testing.T, p *vt.Program, keys string) {
	t.Helper()
	if err := p.Type(keys); err != nil {
		t.Fatal(err)
	}
}

// TestTop drives the real program against a real daemon, with real packets.
func TestTop(t *testing.T) {
	n := labtest.Network(t, lab.Options{})
	addPeer(t, n, "FarAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "10.98.0.0/24")
	stop := runDaemon(t, n.Here.Name)
	p := onTerminal(t, 80, 24, "top "+n.Here.Name)
	key := n.There.PublicKey.String()
	sees(t, p, n.Here.Name+": attached by", "2 idle (asleep), 0 connecting, 0 connected", key[:8], "FarAAAAA", "q quit")

	// By address it finds the one peer, and says all of it.
	types(t, p, "/"+n.There.IPv4.String())
	sees(t, p, "/"+n.There.IPv4.String()+"█")
	types(t, p, "\r")
	sees(t, p, "1 of 1", key)

	// It is woken by hand, and let sleep.
	types(t, p, "w")
	sees(t, p, "wake "+key[:8]+": connected, took", "1 connected", "request 1", "in 1")
	types(t, p, "s")
	sees(t, p, "sleep "+key[:8]+": idle", "2 idle (asleep)")

	// A packet wakes it.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := n.Here.Ping(ctx, n.There.IPv4); err != nil {
		t.Fatal(err)
	}
	sees(t, p, "connecting -> connected  egress", "icmp "+n.Here.IPv4.String()+" > ", "egress 1, request 1", "wakes 2", "▇")
	types(t, p, "x")
	sees(t, p, "1 permanent", "never")
	types(t, p, "s")
	sees(t, p, "it is permanent")
	types(t, p, "i")
	sees(t, p, "0 permanent", "1 connected")

	// Everybody is shown again, in another order, on a larger screen.
	types(t, p, "\x1b")
	sees(t, p, "of 2", "FarAAAAA")
	types(t, p, "oor")
	sees(t, p, "── by state reversed ──")
	if err := p.Resize(160, 40); err != nil {
		t.Fatal(err)
	}
	sees(t, p, "ALLOWED IPS", "10.98.0.0/24")
	types(t, p, "?")
	sees(t, p, "exclude it: never let it sleep")
	types(t, p, "?")
	sees(t, p, "q quit")

	// A daemon may go, and come again.
	stop()
	sees(t, p, "nobody listens on")
	runDaemon(t, n.Here.Name)
	p.Await(patience, func(text string) bool { return !strings.Contains(text, "nobody listens") })
	types(t, p, "q")
	ends(t, p, 0)
	if text := p.Text(); strings.TrimSpace(text) != "" {
		t.Errorf("it leaves on the screen:\n%s", text)
	}
}

func TestTopEnds(t *testing.T) {
	t.Chdir(t.TempDir())
	fakeDaemon{status: manyPeers(100)}.start(t, "wg0.sock")
	for _, signal := range []os.Signal{unix.SIGINT, unix.SIGTERM} {
		p := onTerminal(t, 80, 24, "top wg0 --control wg0.sock")
		sees(t, p, "100 idle", "1 of 101")
		if err := p.Cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		ends(t, p, 0)
	}
	p := onTerminal(t, 80, 24, "top wg0 --control none.sock")
	ends(t, p, 1)
	if text := p.Text(); !strings.HasPrefix(text, "lazybpf: nobody listens on none.sock") {
		t.Errorf("without a daemon:\n%s", text)
	}
	if code, _, stderr := lazybpf(t, "top wg0 --control wg0.sock"); code != 1 || !strings.Contains(stderr, "this is none") {
		t.Errorf("without a terminal: exit %d, %s", code, stderr)
	}
}
