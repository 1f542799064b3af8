// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lazybpf/lazybpf/internal/daemon"
	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
)

// checkLine fails the test unless the error is one line that says all of this.
func checkLine(t testing.TB, err error, texts ...string) {
	t.Helper()
	t.Log(err)
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one line: %v", err)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("it does not say %q: %v", text, err)
		}
	}
}

// TestWrongInterface names an interface that cannot be managed.
func TestWrongInterface(t *testing.T) {
	n := labtest.Network(t, lab.Options{})
	labtest.TUN(t, "tun7")
	cable := strings.Replace(n.Here.Name, "wg", "veth", 1)
	for name, texts := range map[string][]string{
		"none": {"no such device", "bring it up first", "wg-quick up none"},
		cable:  {"not a WireGuard device", "name an interface that wg show lists"},
		"tun7": {"not a WireGuard device", "name an interface that wg show lists"},
	} {
		options := onHere(t, n)
		options.Interface = name
		_, err := daemon.New(t.Context(), options)
		if err == nil {
			t.Errorf("a daemon runs on %s", name)
			continue
		}
		checkLine(t, err, append(texts, name)...)
		if name != "none" {
			checkTraces(t, options)
		}
	}
}

// TestSecondDaemon starts another daemon for an interface: it refuses, and the first one goes on.
func TestSecondDaemon(t *testing.T) {
	n := labtest.Network(t, lab.Options{Keepalive: keepalive})
	r := run(t, n, onHere(t, n))
	r.command(r.client.Wake)
	r.park()
	before := traces(t, r.options)
	elsewhere := r.options
	elsewhere.Control = filepath.Join(t.TempDir(), "other.sock")
	for _, options := range []daemon.Options{r.options, elsewhere} {
		_, err := daemon.New(t.Context(), options)
		if err == nil {
			t.Fatal("two daemons run")
		}
		checkLine(t, err, "another detector is attached", "another lazybpf manages "+n.Here.Name, "stop it first")
	}
	if after := traces(t, r.options); !slices.Equal(after, before) {
		t.Errorf("now there is %q,\nbefore there was %q", after, before)
	}
	wakes := r.figures().wakes
	if _, err := n.Here.Ping(soon(t), n.There.IPv4); err != nil {
		t.Fatal(err)
	}
	awaitWakes(t, r, wakes+1, "egress")
}

// TestSocketOfAnotherDaemon gives two daemons the same socket: the one that comes late leaves all that belongs to the first.
func TestSocketOfAnotherDaemon(t *testing.T) {
	first, second := labtest.Network(t, lab.Options{Keepalive: keepalive}), labtest.Network(t, lab.Options{})
	r := run(t, first, onHere(t, first))
	before := traces(t, r.options)
	options := onHere(t, second)
	options.Control = r.options.Control
	_, err := daemon.New(t.Context(), options)
	if err == nil {
		t.Fatal("two daemons have the same socket")
	}
	checkLine(t, err, "another lazybpf is running", r.options.Control, "stop it first")
	if after := traces(t, r.options); !slices.Equal(after, before) {
		t.Errorf("now there is %q,\nbefore there was %q", after, before)
	}
	options.Control = onHere(t, second).Control
	checkTraces(t, options)
}

// TestUnusableSocket gives a path where there can be no socket.
func TestUnusableSocket(t *testing.T) {
	n := labtest.Network(t, lab.Options{Keepalive: keepalive})
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{
		file:                               "not a socket: move it away, or give another path",
		file + "/wg.sock":                  "not a directory",
		"/run/" + strings.Repeat("a", 200): "a Unix socket takes",
		"@abstract":                        "give the path of a file",
	} {
		options := onHere(t, n)
		options.Control = path
		_, err := daemon.New(t.Context(), options)
		if err == nil {
			t.Errorf("a daemon listens on %s", path)
			continue
		}
		checkLine(t, err, text)
		checkTraces(t, onHere(t, n))
		if got := keepaliveOf(t, n.Here, n.There.PublicKey); got != keepalive {
			t.Errorf("keepalive %v, want %v as before", got, keepalive)
		}
	}
}

// needed are the capabilities that a daemon needs.
func needed(t *testing.T) map[string]int {
	capabilities := map[string]int{
		"CAP_BPF": unix.CAP_BPF, "CAP_NET_ADMIN": unix.CAP_NET_ADMIN, "CAP_NET_RAW": unix.CAP_NET_RAW,
	}
	if labtest.RunningLinux(t).Before(labtest.Linux{Major: 6, Minor: 18}) { // its verifier does not get to the end of loops otherwise
		capabilities["CAP_PERFMON"] = unix.CAP_PERFMON
	}
	return capabilities
}

// TestCapabilities runs a daemon as root with few capabilities: a handful is enough, and it tells which is missing.
func TestCapabilities(t *testing.T) {
	n := labtest.Network(t, lab.Options{Keepalive: keepalive})
	options := onHere(t, n)
	o := order{Interface: options.Interface, Control: options.Control, BPFFS: options.BPFFS}
	needed := needed(t)
	c, ready := startChild(t, o, slices.Collect(maps.Values(needed))...)
	if !ready {
		t.Fatalf("with %v: %s", needed, c.fails())
	}
	if got := traces(t, options); !slices.Contains(got, "pin peers") {
		t.Errorf("with %v there is %q", needed, got)
	}
	c.kill()
	if _, err := daemon.Restore(options.Interface, options.Control, options.BPFFS); err != nil {
		t.Fatal(err)
	}

	for name := range needed {
		others := maps.Clone(needed)
		delete(others, name)
		c, ready := startChild(t, o, slices.Collect(maps.Values(others))...)
		if ready {
			c.kill()
			t.Errorf("it runs without %s", name)
			continue
		}
		checkLine(t, errorText(c.fails()), "missing capability", name, "run as root")
		checkTraces(t, options)
		if got := keepaliveOf(t, n.Here, n.There.PublicKey); got != keepalive {
			t.Errorf("keepalive %v, want %v as before", got, keepalive)
		}
	}
}

// errorText is what a child said, as an error.
type errorText string

func (e errorText) Error() string { return string(e) }
