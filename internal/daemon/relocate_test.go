// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/internal/config"
	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/pkg/control"
)

// TestRelocated has a peer that is awake move: nobody is where the device has it. As soon as somebody sends to it, it is
// looked for where the configuration says.
func TestRelocated(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	options := optionsFor(t, n)
	options.Policy.Peers = []config.Peer{{Name: "there", Key: there(n), Endpoint: n.There.Endpoint.String()}}
	d := manage(t, options)
	do(t, backend{d}.Wake, "there")

	set(t, n, there(n), wgtypes.PeerConfig{Remove: true}) // and its session with it
	moved := peerOf(t, there(n), netip.PrefixFrom(n.There.IPv4, 32).String())
	moved.PersistentKeepaliveInterval = nil
	moved.Endpoint = &net.UDPAddr{IP: n.There.UnderlayIPv4.Next().AsSlice(), Port: 9}
	set(t, n, there(n), moved)
	isThere := func() bool {
		p, _ := onDevice(t, n, there(n))
		return p.Endpoint.String() == n.There.Endpoint.String()
	}
	soon(t, "it has had the time to answer", func() bool { return silentNow(t, d) })
	reread(t, d)
	if isThere() {
		t.Error("it was looked for though nobody sends to it")
	}

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	answered := make(chan error, 1)
	go func() {
		_, err := n.Here.Ping(ctx, n.There.IPv4)
		answered <- err
	}()
	soon(t, "it is looked for", func() bool {
		reread(t, d)
		return isThere()
	})
	if err := <-answered; err != nil {
		t.Errorf("the packet that found nobody: %v", err)
	}
	if got := stateOf(t, d, there(n)); got != control.StateConnected {
		t.Errorf("it is %s", got)
	}
}

// silentNow says whether There does not answer, by the device of now.
func silentNow(t *testing.T, d *Daemon) bool {
	t.Helper()
	s := sessionOf(t, d)
	begin := time.Now()
	peers, err := s.device.Peers()
	if err != nil {
		t.Fatal(err)
	}
	reading, err := s.connector.Observe(begin, peers, s.known.has)
	if err != nil {
		t.Fatal(err)
	}
	return len(reading.Silent) > 0
}
