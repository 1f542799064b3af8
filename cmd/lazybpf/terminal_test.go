// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/internal/view"
	"github.com/lazybpf/lazybpf/internal/vt"
	"github.com/lazybpf/lazybpf/pkg/control"
)

// onTerminal runs lazybpf on a terminal of its own until the test ends.
func onTerminal(t *testing.T, width, height int, line string, environment ...string) *vt.Program {
	t.Helper()
	cmd := exec.Command("lazybpf", strings.Fields(line)...)
	cmd.Env = append(os.Environ(), append([]string{"TERM=xterm-256color", "NO_COLOR=", "GORACE=atexit_sleep_ms=0"}, environment...)...)
	p, err := vt.Start(cmd, width, height)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// sees waits until all words are on the screen, which it returns.
func sees(t *testing.T, p *vt.Program, words ...string) string {
	t.Helper()
	text, ok := p.Await(patience, func(text string) bool {
		for _, word := range words {
			if !strings.Contains(text, word) {
				return false
			}
		}
		return true
	})
	if !ok {
		t.Fatalf("%q is not all on the screen:\n%s", words, text)
	}
	return text
}

// ends checks the exit code of a program, and that the terminal is as it was.
func ends(t *testing.T, p *vt.Program, code int) {
	t.Helper()
	got, err := 0, p.Wait(patience)
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		got, err = exit.ExitCode(), nil
	}
	if err != nil || got != code {
		t.Errorf("exit code %d, %v, want %d:\n%s", got, err, code, p.Text())
	}
	p.Look(func(s *vt.Screen, _ string) {
		if s.Alternate || s.CursorHidden {
			t.Errorf("the terminal is not as it was: alternate screen %v, cursor hidden %v", s.Alternate, s.CursorHidden)
		}
	})
}

// manyPeers is one that talks and n that sleep.
func manyPeers(n int) control.Status {
	s := control.Status{Interface: "wg0", Attach: "tcx", InactivityThreshold: "15m0s", Since: *before(0)}
	s.Counts = control.Counts{Idle: n, Connected: 1}
	s.Peers = []control.Peer{{
		PublicKey: "TalkAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", State: control.StateConnected, AllowedIPs: []string{"10.0.0.2/32"},
		LastTx: before(0), IdleIn: "14m58s", Wakes: 1, LastWake: &control.Wake{Reason: "egress", At: clock, Took: "1.8ms"},
	}}
	for i := range n {
		s.Peers = append(s.Peers, control.Peer{PublicKey: fmt.Sprintf("%043d=", i), State: control.StateIdle, AllowedIPs: []string{}})
	}
	return s
}

func TestStatusOnTerminal(t *testing.T) {
	t.Chdir(t.TempDir())
	fakeDaemon{status: manyPeers(300)}.start(t, "wg0.sock")
	for _, test := range []struct {
		width  int
		flags  string
		lines  int
		rest   bool
		colour bool
		env    string
	}{
		{80, "", terminalPeers + 5, true, true, "NO_COLOR="},
		{80, "--all", 301 + 4, false, true, "NO_COLOR="},
		{200, "", terminalPeers + 5, true, false, "NO_COLOR=1"},
		{80, "--state connected", 1 + 5, false, false, "TERM=dumb"},
	} {
		p := onTerminal(t, test.width, 1000, "status wg0 --control wg0.sock "+test.flags, test.env)
		ends(t, p, 0)
		text := p.Text()
		for line := range strings.Lines(text) {
			if n := len([]rune(line)) - 1; n > test.width {
				t.Errorf("%d characters on a terminal of %d: %s", n, test.width, line)
			}
		}
		p.Look(func(_ *vt.Screen, raw string) {
			if n := strings.Count(text, "\n"); n != test.lines || strings.Contains(text, "… 101 more: --all") != test.rest ||
				strings.Contains(text, "ENDPOINT") != (test.width > 80) || strings.Contains(raw, view.Dim) != test.colour {
				t.Errorf("%s %s: %d lines, want %d:\n%.1000q", test.flags, test.env, n, test.lines, raw)
			}
		})
	}
}

func TestStatusWatchOnTerminal(t *testing.T) {
	t.Chdir(t.TempDir())
	fakeDaemon{status: manyPeers(300)}.start(t, "wg0.sock")
	p := onTerminal(t, 80, 24, "status wg0 --watch --control wg0.sock")
	text := sees(t, p, "wg0: attached", "TalkA", "more lines")
	if lines := strings.Split(text, "\n"); !strings.HasPrefix(lines[0], "wg0") || lines[23] != "… 182 more lines" {
		t.Errorf("the screen is not filled from its first line to its last:\n%s", text)
	}
	p.Look(func(s *vt.Screen, _ string) {
		if !s.Alternate || !s.CursorHidden {
			t.Error("not on the alternate screen, or with a cursor")
		}
	})
	if err := p.Resize(200, 10); err != nil {
		t.Fatal(err)
	}
	sees(t, p, "ENDPOINT", "egress 1.8ms", "… 196 more lines")
	if err := p.Type("\x03"); err != nil {
		t.Fatal(err)
	}
	ends(t, p, 0)
	if text := p.Text(); strings.TrimSpace(text) != "" {
		t.Errorf("it leaves on the screen:\n%s", text)
	}
}

// TestStatusWatchOnDumbTerminal: a terminal that cannot go back is told the status again and again, as a pipe is.
func TestStatusWatchOnDumbTerminal(t *testing.T) {
	t.Chdir(t.TempDir())
	fakeDaemon{status: manyPeers(1)}.start(t, "wg0.sock")
	p := onTerminal(t, 80, 24, "status wg0 --watch --control wg0.sock", "TERM=dumb")
	sees(t, p, "wg0: attached")
	if err := p.Type("\x03"); err != nil {
		t.Fatal(err)
	}
	ends(t, p, 0)
	p.Look(func(_ *vt.Screen, raw string) {
		if strings.Contains(raw, "\x1b") {
			t.Errorf("it writes escape sequences:\n%q", raw)
		}
	})
}

// TestStatusWatchEnds has a daemon that ends while it is watched.
func TestStatusWatchEnds(t *testing.T) {
	t.Chdir(t.TempDir())
	stop := fakeDaemon{status: manyPeers(1)}.start(t, "wg0.sock")
	p := onTerminal(t, 80, 24, "status wg0 --watch --control wg0.sock")
	sees(t, p, "wg0: attached")
	stop()
	ends(t, p, 1)
	if text := p.Text(); !strings.HasPrefix(text, "lazybpf: nobody listens on wg0.sock") || strings.Contains(text, "attached") {
		t.Errorf("it leaves on the screen:\n%s", text)
	}
}

// TestHelpOnTerminal has prose as wide as the terminal is.
func TestHelpOnTerminal(t *testing.T) {
	for _, width := range []int{40, 200} {
		p := onTerminal(t, width, 100, "help run")
		ends(t, p, 0)
		prose, _, _ := strings.Cut(p.Text(), "Usage:")
		longest := 0
		for line := range strings.Lines(prose) {
			longest = max(longest, len([]rune(line))-1)
		}
		if longest > width || longest < width*3/4 {
			t.Errorf("%d characters on a terminal of %d:\n%s", longest, width, prose)
		}
	}
}

// TestRunOnTerminal logs in colour, unless somebody wants none.
func TestRunOnTerminal(t *testing.T) {
	n := labtest.Network(t, lab.Options{})
	for environment, colour := range map[string]bool{"NO_COLOR=": true, "NO_COLOR=1": false, "TERM=dumb": false} {
		p := onTerminal(t, 80, 24, "run "+n.Here.Name, environment)
		sees(t, p, "started")
		types(t, p, "\x03")
		ends(t, p, 0)
		p.Look(func(_ *vt.Screen, raw string) {
			if strings.Contains(raw, "\x1b") != colour || !strings.Contains(raw, "stopped") {
				t.Errorf("%s: %q", environment, raw)
			}
		})
	}
}
