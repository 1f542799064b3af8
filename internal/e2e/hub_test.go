// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/pkg/control"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// strangers are how many peers TestHub adds. Linux 6.1 takes 13 ms to remove one with its interface. wireguard-go has two
// goroutines for each, and the race detector bears no more than 8,128 at once.
func strangers(n *lab.Network) int {
	switch {
	case n.Kind() == lab.Kernel:
		return 1000
	case raceDetector:
		return 3000
	}
	return 10000
}

// TestHub has, beside There, thousands of peers that nobody talks to.
//
//	Here                                There, the only one that exists
//	wg1a ────────────────────────────── wg1b
//	     ···· 10.100.0.0/32
//	     ···· 10.100.0.1/32
//	     ···· and so on
func TestHub(t *testing.T) {
	n := labtest.Network(t, lab.Options{})
	peers := make([]wgtypes.PeerConfig, strangers(n))
	for i := range peers {
		address := binary.BigEndian.AppendUint32(nil, 10<<24|100<<16+uint32(i))
		peers[i] = wgtypes.PeerConfig{
			PublicKey:  stranger(t),
			AllowedIPs: []net.IPNet{{IP: address, Mask: net.CIDRMask(32, 32)}},
		}
	}
	if err := n.Here.Configure(wgtypes.Config{Peers: peers}); err != nil {
		t.Fatal(err)
	}
	dumps := countDumps(t, n)

	options := onHere(t, n)
	options.Wake = lazy.WakeHold
	options.Log.SetLevel(logrus.WarnLevel) // not a line for each peer
	begin := time.Now()
	r := run(t, n, options)
	t.Logf("started with %d peers in %v", len(peers)+1, time.Since(begin))
	if got, want := r.status().Counts, (control.Counts{Idle: len(peers) + 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}

	const readings = 5
	before := dumps.Load()
	begin = time.Now()
	for range readings {
		if err := r.client.CopyStatus(soon(t), io.Discard, control.Filter{}); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("status in %v", time.Since(begin)/readings)
	// The daemon reads the device every few seconds, whoever looks.
	if got := dumps.Load() - before; got >= readings {
		t.Errorf("the device was read %d times while the status was read %d times", got, readings)
	}

	rtt, err := n.Here.Ping(soon(t), n.There.IPv4)
	if err != nil {
		t.Fatal(err)
	}
	awaitWake(t, r, figures{}, lazy.WakeHold)
	t.Logf("first round trip %v, connected after %s", rtt, r.there().LastWake.Took)
	if got, want := r.status().Counts, (control.Counts{Idle: len(peers), Connected: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	begin = time.Now()
	r.stop()
	t.Logf("stopped in %v", time.Since(begin))
	checkTraces(t, options)
}

// countDumps counts how often anybody reads Here's device. It can be seen only of wireguard-go, whose socket it takes the
// place of:
//
//	wgctrl ──► /var/run/wireguard/wg1a.sock (here) ──► wg1a.sock.behind (wireguard-go)
func countDumps(t *testing.T, n *lab.Network) *atomic.Int64 {
	t.Helper()
	dumps := new(atomic.Int64)
	if n.Kind() != lab.WireGuardGo {
		return dumps
	}
	path := "/var/run/wireguard/" + n.Here.Name + ".sock"
	behind := path + ".behind"
	if err := os.Rename(path, behind); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		listener.Close()
		if err := os.Rename(behind, path); err != nil {
			t.Error(err)
		}
	})
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go pass(client, behind, dumps)
		}
	}()
	return dumps
}

// pass passes a request on and the answer back.
func pass(client net.Conn, behind string, dumps *atomic.Int64) {
	defer client.Close()
	server, err := net.Dial("unix", behind)
	if err != nil {
		return
	}
	defer server.Close()
	const get = "get=1\n"
	first := make([]byte, len(get))
	if _, err := io.ReadFull(client, first); err != nil {
		return
	}
	if string(first) == get {
		dumps.Add(1)
	}
	if _, err := server.Write(first); err != nil {
		return
	}
	go func() { _, _ = io.Copy(server, client) }()
	_, _ = io.Copy(client, server)
}
