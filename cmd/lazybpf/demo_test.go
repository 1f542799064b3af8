// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The tests of the story itself are in internal/demo. Those here run the command, which makes a lab within that of the tests.

func demoCommand(command ...string) *exec.Cmd {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "LAZYBPF_LAB=")
	return cmd
}

func TestDemoInterrupted(t *testing.T) {
	cmd := demoCommand("lazybpf", "demo")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	lines := bufio.NewScanner(stdout)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "plain WireGuard") {
	}
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, stdout); err != nil { // until the process in the lab has ended
		t.Error(err)
	}
	checkFailure(t, cmd.Wait(), stderr.String(), "lazybpf: interrupted\n")
}

func TestDemoWithoutRoot(t *testing.T) {
	cmd := demoCommand("unprivileged", "lazybpf", "demo")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	if len(stdout) > 0 {
		t.Errorf("it says\n%s", stdout)
	}
	checkFailure(t, err, stderr.String(),
		"lazybpf: the demo makes network namespaces: run it as root, with CAP_SYS_ADMIN and CAP_NET_ADMIN\n")
}

func checkFailure(t *testing.T, err error, stderr, want string) {
	t.Helper()
	exit := new(exec.ExitError)
	if !errors.As(err, &exit) || exit.ExitCode() != exitFailed || stderr != want {
		t.Errorf("%v, stderr %q; want exit status %d, stderr %q", err, stderr, exitFailed, want)
	}
}
