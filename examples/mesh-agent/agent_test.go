// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// asAgent makes this program mesh-agent.
const asAgent = "LAZYBPF_MESH_AGENT"

func TestMain(m *testing.M) {
	if os.Getenv(asAgent) == "" {
		labtest.Main(m)
	}
	go func() { // an agent whose test is gone has nothing more to do
		_, _ = io.Copy(io.Discard, os.NewFile(3, "test"))
		os.Exit(1)
	}()
	main()
}

// agent is mesh-agent at work on Here's interface.
type agent struct {
	t         *testing.T
	network   *lab.Network
	directory string // path
	cmd       *exec.Cmd
	stdin     io.Writer

	mu  sync.Mutex // guards log
	log bytes.Buffer
}

// start has the agent manage There, and all else with the network's directory.
func start(t *testing.T, n *lab.Network, flags ...string) *agent {
	t.Helper()
	return startWith(t, n, fmt.Sprintln(n.There.PublicKey, n.There.Endpoint), flags...)
}

func startWith(t *testing.T, n *lab.Network, directory string, flags ...string) *agent {
	t.Helper()
	a := &agent{t: t, network: n, directory: filepath.Join(t.TempDir(), "directory")}
	if err := os.WriteFile(a.directory, []byte(directory), 0o600); err != nil {
		t.Fatal(err)
	}
	alive, test, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	a.cmd = exec.Command("/proc/self/exe", append(flags, n.Here.Name, a.directory)...)
	a.cmd.Env = append(os.Environ(), asAgent+"=1")
	a.cmd.ExtraFiles = []*os.File{alive}
	a.cmd.Stderr = a
	if a.stdin, err = a.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = a.cmd.Process.Kill() // it may have ended
		_ = a.cmd.Wait()
		test.Close()
	})
	a.await("INFO started", 1)
	return a
}

// Write takes what the agent logs.
func (a *agent) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fmt.Fprintf(a.t.Output(), "%s", p)
	return a.log.Write(p)
}

// await waits until the agent has logged that many lines of the pattern.
func (a *agent) await(pattern string, lines int) {
	a.t.Helper()
	line := regexp.MustCompile("(?m)^.*" + pattern)
	await(a.t, fmt.Sprintf("%d lines of %s", lines, pattern), func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(line.FindAll(a.log.Bytes(), -1)) >= lines
	})
}

// hear tells the agent a word about a peer.
func (a *agent) hear(word string, peer wgtypes.Key) {
	a.t.Helper()
	if _, err := fmt.Fprintln(a.stdin, word, peer); err != nil {
		a.t.Fatal(err)
	}
}

// interrupt ends the agent as Ctrl-C does.
func (a *agent) interrupt() {
	a.t.Helper()
	if err := errors.Join(a.cmd.Process.Signal(os.Interrupt), a.cmd.Wait()); err != nil {
		a.t.Error("agent:", err)
	}
}

// directoryThatAsks makes the directory wait for the test: ask returns when the agent has asked, answer answers.
func (a *agent) directoryThatAsks() (ask func() (answer func())) {
	a.t.Helper()
	content, err := os.ReadFile(a.directory)
	if err != nil {
		a.t.Fatal(err)
	}
	pipe := a.directory + ".pipe"
	if err := errors.Join(unix.Mkfifo(pipe, 0o600), os.Rename(pipe, a.directory)); err != nil {
		a.t.Fatal(err)
	}
	return func() func() {
		var writer *os.File
		await(a.t, "the agent asks for an endpoint", func() (asked bool) {
			writer, err = os.OpenFile(a.directory, os.O_WRONLY|unix.O_NONBLOCK, 0)
			return err == nil
		})
		return func() {
			_, err := writer.Write(content)
			if err := errors.Join(err, writer.Close()); err != nil {
				a.t.Fatal(err)
			}
		}
	}
}

func (a *agent) awaitKeepalive(peer wgtypes.Key, want time.Duration) {
	a.t.Helper()
	await(a.t, fmt.Sprintf("keepalive %v of %s", want, short(peer)), func() bool {
		return peerOf(a.t, a.network.Here, peer).PersistentKeepaliveInterval == want
	})
}

// checkEndpoint fails the test unless WireGuard has this endpoint of a peer; the zero one is none.
func (a *agent) checkEndpoint(peer wgtypes.Key, want netip.AddrPort) {
	a.t.Helper()
	var got netip.AddrPort
	if endpoint := peerOf(a.t, a.network.Here, peer).Endpoint; endpoint != nil {
		got = netip.AddrPortFrom(endpoint.AddrPort().Addr().Unmap(), uint16(endpoint.Port))
	}
	if got != want {
		a.t.Errorf("endpoint %v of %s, want %v", got, short(peer), want)
	}
}

func short(key wgtypes.Key) string { return regexp.QuoteMeta(lazy.Key(key).Short()) }

func peerOf(t *testing.T, h *lab.Host, key wgtypes.Key) wgtypes.Peer {
	t.Helper()
	device, err := h.Device()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(device.Peers, func(p wgtypes.Peer) bool { return p.PublicKey == key })
	if i < 0 {
		t.Fatalf("%s has no peer %s", h.Name, key)
	}
	return device.Peers[i]
}

func configure(t *testing.T, h *lab.Host, peers ...wgtypes.PeerConfig) {
	t.Helper()
	if err := h.Configure(wgtypes.Config{Peers: peers}); err != nil {
		t.Fatal(err)
	}
}

// stranger is the key of a peer that does not exist.
func stranger(t *testing.T) wgtypes.Key {
	t.Helper()
	key, err := wgtypes.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// patience is how long a test waits for what should happen at once. No test passes by it.
const patience = 30 * time.Second

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}
