// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/internal/vt"
	"github.com/lazybpf/lazybpf/pkg/control"
)

// endless are examples that run until they are interrupted.
var endless = regexp.MustCompile(`^lazybpf (run|events|top) |--watch`)

// TestExamples types every example of every command's help at a terminal, with the interface and the addresses of a real
// network, and a daemon on it where it takes one.
func TestExamples(t *testing.T) {
	n := labtest.Network(t, lab.Options{})
	here := strings.NewReplacer("wg0", n.Here.Name, "10.0.0.1", n.There.IPv4.String(), "10.0.0.2", n.There.IPv4.String(),
		"fd00::2", n.There.IPv6.String(), "| source", "| cat") // fish sources; these examples are typed at bash
	lonely := map[string]bool{"run": true, "restore": true, "check": true} // want that no daemon runs
	try := func(where func(name string) bool) {
		forEachCommand(newRootCommand(), func(cmd *cobra.Command) {
			for line := range strings.Lines(cmd.Example) {
				if where(cmd.Name()) {
					tryExample(t, n, here.Replace(strings.TrimSpace(line)))
				}
			}
		})
	}
	try(func(name string) bool { return lonely[name] })
	runDaemon(t, n.Here.Name)
	try(func(name string) bool { return !lonely[name] && name != "demo" }) // which takes long, and has tests of its own
}

func tryExample(t *testing.T, n *lab.Network, line string) {
	t.Helper()
	cmd := exec.Command("bash", "-c", line)
	cmd.Env = append(os.Environ(), "TERM=xterm-256color", "GORACE=atexit_sleep_ms=0")
	p, err := vt.Start(cmd, 80, 24)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if endless.MatchString(line) && !strings.Contains(line, "--check-config") {
		client := control.NewClient(control.Path(n.Here.Name))
		text, ok := p.Await(patience, func(text string) bool {
			if strings.Contains(line, " events ") { // says nothing until there is one
				_, _ = client.Sleep(t.Context(), []string{n.There.IPv4.String()})
				_, _ = client.Wake(t.Context(), []string{n.There.IPv4.String()})
			}
			return text != "\n"
		})
		if !ok {
			t.Errorf("%s: nothing happens:\n%s", line, text)
		}
		types(t, p, "\x03")
	}
	if err := p.Wait(patience); err != nil {
		t.Errorf("%s: %v\n%s", line, err, p.Text())
	}
}
