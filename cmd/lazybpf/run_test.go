// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestErrors(t *testing.T) {
	t.Chdir(t.TempDir())
	staleSocket(t, "stale.sock")
	notRunning := func(path string) string {
		return "nobody listens on " + path + ": is `lazybpf run IFACE --control " + path + "` running?"
	}
	for _, test := range []struct {
		line   string
		code   int
		stderr string
	}{
		{"nonsense", 2, "unknown command \"nonsense\": see `lazybpf --help`"},
		{"staus", 2, "unknown command \"staus\": did you mean status?: see `lazybpf --help`"},
		{"help nonsense", 2, "unknown command \"nonsense\": see `lazybpf help --help`"},
		{"--nonsense", 2, "unknown flag: --nonsense: see `lazybpf --help`"},
		{"status --nonsense", 2, "unknown flag: --nonsense: see `lazybpf status --help`"},
		{"status -o yaml", 2, "invalid argument \"yaml\" for \"-o, --output\" flag: must be table or json: see `lazybpf status --help`"},
		{"events wg0 -o table", 2, "invalid argument \"table\" for \"-o, --output\" flag: must be text or json: see `lazybpf events --help`"},
		{"status wg0 wg1", 2, "unexpected argument \"wg1\": see `lazybpf status --help`"},
		{"status ../wg0", 2, "\"../wg0\" cannot be an interface: a name has 1 to 15 bytes and no '/', ':' or blanks: see `lazybpf status --help`"},
		{"events", 2, "no interface given: see `lazybpf events --help`"},
		{"wake", 2, "no interface and no peer given: see `lazybpf wake --help`"},
		{"sleep wg0", 2, "no peer of wg0 given: see `lazybpf sleep --help`"},
		{"exclude sixteen-bytes-xx laptop", 2, "\"sixteen-bytes-xx\" cannot be an interface: a name has 1 to 15 bytes and no '/', ':' or blanks: see `lazybpf exclude --help`"},
		{"version now", 2, "unexpected argument \"now\": see `lazybpf version --help`"},
		{"completion", 2, "name a shell: bash or fish or zsh: see `lazybpf completion --help`"},
		{"completion tcsh", 2, "name a shell: bash or fish or zsh: see `lazybpf completion --help`"},

		{"status --control none.sock", 1, notRunning("none.sock")},
		{"status wg0 --watch --control none.sock", 1, notRunning("none.sock")},
		{"events wg0 --control stale.sock", 1, notRunning("stale.sock")},
		{"wake wg0 laptop --control stale.sock", 1, notRunning("stale.sock")},
	} {
		code, stdout, stderr := lazybpf(t, test.line)
		if code != test.code || stderr != "lazybpf: "+test.stderr+"\n" || stdout != "" {
			t.Errorf("lazybpf %s: exit %d\nstdout %q\nstderr %s\nwant   lazybpf: %s", test.line, code, stdout, stderr, test.stderr)
		}
	}
}

func TestCheckInterface(t *testing.T) {
	for _, name := range []string{"wg0", "a", "fifteen-bytes-x", "wg.0", "größe"} {
		if err := checkInterface(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", ".", "..", "a/b", "/", "a b", "a:b", "a\n", "sixteen-bytes-xx"} {
		if checkInterface(name) == nil {
			t.Errorf("%q passes", name)
		}
	}
}

func TestHelp(t *testing.T) {
	forEachCommand(newRootCommand(), func(cmd *cobra.Command) {
		path := strings.TrimPrefix(cmd.CommandPath(), "lazybpf")
		code, stdout, stderr := lazybpf(t, path+" --help")
		if code != 0 || stderr != "" || !strings.Contains(stdout, "Usage:") || !strings.Contains(stdout, "Examples:") {
			t.Errorf("lazybpf%s --help: exit %d\n%s%s", path, code, stdout, stderr)
		}
		for line := range strings.Lines(stdout) {
			if n := len([]rune(line)) - 1; n > helpWidth {
				t.Errorf("lazybpf%s --help: %d characters: %s", path, n, line)
			}
		}
		if _, same, _ := lazybpf(t, "help "+path); same != stdout {
			t.Errorf("lazybpf help%s differs from --help:\n%s", path, same)
		}
	})
}

func forEachCommand(cmd *cobra.Command, do func(*cobra.Command)) {
	do(cmd)
	for _, child := range cmd.Commands() {
		forEachCommand(child, do)
	}
}

func TestVersion(t *testing.T) {
	defer func(before string) { version = before }(version)
	version = "v1.2.3"
	code, stdout, _ := lazybpf(t, "version")
	fields := strings.Fields(stdout)
	if code != 0 || len(fields) < 8 || fields[1] != "v1.2.3" || !strings.HasPrefix(fields[len(fields)-3], "go1.") {
		t.Errorf("exit %d: %s", code, stdout)
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "fish", "zsh"} {
		if code, stdout, stderr := lazybpf(t, "completion "+shell); code != 0 || !strings.Contains(stdout, "lazybpf") {
			t.Errorf("%s: exit %d: %s", shell, code, stderr)
		}
	}
}
