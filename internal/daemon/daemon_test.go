// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/internal/server"
	"github.com/lazybpf/lazybpf/internal/wg"
	"github.com/lazybpf/lazybpf/pkg/control"
	"github.com/lazybpf/lazybpf/pkg/detect"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// parkingDevice is whether Here has the device that a daemon's detector makes.
func parkingDevice(t *testing.T, n *lab.Network) bool {
	t.Helper()
	watched, err := net.InterfaceByName(n.Here.Name)
	if err != nil {
		t.Fatal(err)
	}
	_, err = net.InterfaceByName(fmt.Sprintf("lazy%d", watched.Index))
	return err == nil
}

// files are those beside a control socket, with what they say.
func files(t *testing.T, options Options) map[string]string {
	t.Helper()
	dir := filepath.Dir(options.Control)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, e := range entries {
		content, _ := os.ReadFile(filepath.Join(dir, e.Name())) // a socket has none
		all[e.Name()] = string(content)
	}
	return all
}

func TestRun(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{Keepalive: every})
	ping(t, n, n.There.IPv4)
	options := optionsFor(t, n)
	options.BPFFS = "/sys/fs/bpf"
	d, err := New(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	// Commands wait from now on, and are answered once it runs.
	client := control.NewClient(options.Control)
	asleep := make(chan error, 1)
	go func() {
		_, err := client.Sleep(t.Context(), []string{n.There.IPv4.String()})
		asleep <- err
	}()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	if err := <-asleep; err != nil {
		t.Error(err)
	}
	expectKeepalive(t, n, there(n), 0)
	if _, err := os.Stat(filepath.Join(PinDir(options.BPFFS, n.Here.Name), "peers")); err != nil {
		t.Error(err)
	}

	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := keepaliveOf(t, n, there(n)); got != every {
		t.Errorf("in the end the keepalive is %s, want %s", got, every)
	}
	if left := files(t, options); len(left) > 0 || parkingDevice(t, n) {
		t.Errorf("left: files %v, parking device: %v", left, parkingDevice(t, n))
	}
	if _, err := os.Stat(PinDir(options.BPFFS, n.Here.Name)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("pins are left: %v", err)
	}
	if _, err := client.Status(t.Context(), control.Filter{}); !errors.Is(err, control.ErrNotRunning) {
		t.Errorf("error %v, want ErrNotRunning", err)
	}
}

// TestNewRefuses has starts that fail at one point or another: each says why in one line, leaves nothing, and leaves alone what
// a dead daemon's journal says.
func TestNewRefuses(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	add(t, n, far, "10.98.0.0/24")
	dead := map[lazy.Key]wg.Keepalive{there(n): {Original: 50 * time.Second}}
	for name, test := range map[string]struct {
		change func(*Options)
		want   error
		says   string
	}{
		"no device": {
			func(o *Options) { o.Interface = "nosuch0" }, wg.ErrNoDevice, "bring it up first, as with wg-quick up nosuch0",
		},
		"not WireGuard": {
			func(o *Options) { o.Interface = "lo" }, wg.ErrNotWireGuard, "lo: not a WireGuard device: name an interface that wg show lists",
		},
		"bad threshold": {
			func(o *Options) { o.InactivityThreshold = time.Millisecond }, lazy.ErrThreshold, "1ms is shorter than 1s",
		},
		"no socket": {
			func(o *Options) { o.Control = "@abstract" }, nil, "give the path of a file",
		},
		"nobody": {
			func(o *Options) { o.Exclude = []string{"FarA", "10.99.0.1"} }, control.ErrNoPeer,
			"10.99.0.1 is in nobody's allowed IPs: wg show " + n.Here.Name + " lists the peers",
		},
		"broken journal": {
			func(o *Options) {
				if err := os.WriteFile(string(JournalOf(o.Control)), []byte("{"), 0o600); err != nil {
					t.Fatal(err)
				}
			}, nil, "remove it to do without",
		},
		"broken file of evicted peers": {
			func(o *Options) {
				if err := os.WriteFile(EvictedOf(o.Control), []byte("{\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}, nil, "remove the file to do without",
		},
		"too early": {
			func(o *Options) { o.EvictAfter = lazy.MinEvictAfter - 1 }, nil, "2m59.999999999s is shorter than 3m0s",
		},
	} {
		options := optionsFor(t, n)
		leaveJournal(t, options.Control, n.Here.Name, dead)
		where := options
		test.change(&options)
		before := files(t, where)
		d, err := New(t.Context(), options)
		if err == nil {
			t.Errorf("%s: no error", name)
			stop(t, d)
			continue
		}
		if test.want != nil && !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v, want one line that says %s", name, err, test.says)
		}
		if after := files(t, where); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("%s: files %v, before %v", name, after, before)
		}
		if parkingDevice(t, n) {
			t.Errorf("%s: the parking device is left", name)
		}
		if got := keepaliveOf(t, n, far); got != every {
			t.Errorf("%s: keepalive %s, before %s", name, got, every)
		}
	}
}

// TestOneDaemonEach has a second daemon, and restore, come upon the first one's interface, and upon its socket.
func TestOneDaemonEach(t *testing.T) {
	t.Parallel()
	n, other := labtest.Network(t, lab.Options{Keepalive: every}), labtest.Network(t, lab.Options{Keepalive: every})
	options := optionsFor(t, n)
	manage(t, options)
	before := files(t, options)
	otherSocket := filepath.Join(t.TempDir(), "other.sock")
	manages := "another lazybpf manages " + n.Here.Name + ": stop it first"
	listens := "another lazybpf is running on " + options.Control + ": stop it first"
	for _, test := range []struct {
		iface, socket string
		want          error
		says          string
	}{
		{n.Here.Name, options.Control, detect.ErrBusy, manages},
		{n.Here.Name, otherSocket, detect.ErrBusy, manages},
		{other.Here.Name, options.Control, server.ErrRunning, listens},
	} {
		second := options
		second.Interface, second.Control = test.iface, test.socket
		_, starting := New(t.Context(), second)
		_, restoring := Restore(test.iface, test.socket, "")
		for verb, err := range map[string]error{"run": starting, "restore": restoring} {
			if !errors.Is(err, test.want) || !strings.HasSuffix(err.Error(), test.says) {
				t.Errorf("%s %s on %s: error %v, want %s", verb, test.iface, test.socket, err, test.says)
			}
		}
	}
	if after := files(t, options); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("files %v, before %v", after, before)
	}
	if !parkingDevice(t, n) {
		t.Error("the first daemon has lost its parking device")
	}
	if got := keepaliveOf(t, other, there(other)); got != every {
		t.Errorf("the other interface's peer has keepalive %s, before %s", got, every)
	}
}

func TestRestore(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	for _, test := range []struct {
		iface string
		says  string
	}{
		{n.Here.Name, ""},
		{"nosuch0", ""},
		{"lo", "lo: not a WireGuard device: name an interface that wg show lists"},
	} {
		socket := filepath.Join(t.TempDir(), "wg0.sock")
		leaveJournal(t, socket, n.Here.Name, map[lazy.Key]wg.Keepalive{there(n): {Original: every, Open: every}})
		left, err := JournalOf(socket).Load()
		if err != nil {
			t.Fatal(err)
		}
		away := `{"interface":"` + left.Interface + `"}` + "\n" +
			`{"public_key":"` + far.String() + `","allowed_ips":["10.98.0.0/24"],"keepalive":"25s"}` + "\n"
		if err := os.WriteFile(EvictedOf(socket), []byte(away), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = Restore(test.iface, socket, "")
		if test.says != "" {
			if err == nil || err.Error() != test.says {
				t.Errorf("%s: error %v, want %s", test.iface, err, test.says)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.iface, err)
		}
		if left := files(t, Options{Control: socket}); len(left) > 0 {
			t.Errorf("%s: files %v are left", test.iface, left)
		}
	}
	if got := keepaliveOf(t, n, there(n)); got != every {
		t.Errorf("keepalive %s, want %s", got, every)
	}
	if got := keepaliveOf(t, n, far); got != every {
		t.Errorf("keepalive %s of the one that was evicted, want %s", got, every)
	}
}

func TestPaths(t *testing.T) {
	for got, want := range map[string]string{
		PinDir("/sys/fs/bpf", "wg0"):               "/sys/fs/bpf/lazybpf/wg0",
		PinDir("", "wg0"):                          "",
		string(JournalOf("/run/lazybpf/wg0.sock")): "/run/lazybpf/wg0.journal",
		string(JournalOf("elsewhere")):             "elsewhere.journal",
		EvictedOf("/run/lazybpf/wg0.sock"):         "/run/lazybpf/wg0.evicted",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
