// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/lazybpf/lazybpf/internal/daemon"
	"github.com/lazybpf/lazybpf/pkg/detect"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// order is what this program does when it is started once more, in the same lab, with an order in childVar.
type order struct {
	Interface string
	Wake      lazy.WakeMode
	Control   string
	BPFFS     string
	Clsact    bool // parts on clsact, instead of the daemon
}

const childVar = "LAZYBPF_E2E_CHILD"

// ready is what a child prints when it is at work.
const ready = "ready\n"

// runChild does what `lazybpf run` does, and returns its exit code.
func runChild(encoded string) int {
	go func() { // whose parent is gone has nothing more to do
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	if err := carryOut(encoded); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func carryOut(encoded string) error {
	var o order
	if err := json.Unmarshal([]byte(encoded), &o); err != nil {
		return err
	}
	if o.Clsact {
		if _, err := newParts(o.Interface, choice{attach: detect.AttachClsact, wake: o.Wake}); err != nil {
			return err
		}
		fmt.Print(ready)
		select {}
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	d, err := daemon.New(context.Background(), daemon.Options{
		Interface: o.Interface, Wake: o.Wake, Control: o.Control, BPFFS: o.BPFFS, Log: log,
	})
	if err != nil {
		return err
	}
	fmt.Print(ready)
	return d.Run(context.Background())
}

// child is this program at work on an order.
type child struct {
	t      testing.TB
	cmd    *exec.Cmd
	stderr bytes.Buffer
}

// startChild starts a child and waits until it is ready, or has ended: it reports whether it is ready. With capabilities it
// has no others than these.
func startChild(t testing.TB, o order, capabilities ...int) (c *child, isReady bool) {
	t.Helper()
	encoded, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	c = &child{t: t, cmd: exec.Command("/proc/self/exe")}
	c.cmd.Env = append(os.Environ(), childVar+"="+string(encoded))
	c.cmd.Stderr = &c.stderr
	if _, err := c.cmd.StdinPipe(); err != nil { // Wait closes it
		t.Fatal(err)
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := startWith(c.cmd, capabilities); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	said := make([]byte, len(ready))
	_, err = io.ReadFull(stdout, said)
	return c, err == nil && string(said) == ready
}

// startWith starts a program that has no other capabilities than these; if there are none, it has all.
func startWith(cmd *exec.Cmd, capabilities []int) error {
	if len(capabilities) == 0 {
		return cmd.Start()
	}
	started := make(chan error)
	go func() {
		// The program inherits the bounding set of the thread that starts it. That thread ends with this goroutine.
		runtime.LockOSThread()
		for c := range unix.CAP_LAST_CAP + 1 {
			if slices.Contains(capabilities, c) {
				continue
			}
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil {
				started <- err
				return
			}
		}
		started <- cmd.Start()
	}()
	return <-started
}

// kill ends the child by SIGKILL; again does nothing.
func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may have ended
	_ = c.cmd.Wait()
}

// fails waits for the end of a child that was not ready, and returns what it said.
func (c *child) fails() string {
	c.t.Helper()
	if err := c.cmd.Wait(); err == nil {
		c.t.Error("it ended without an error")
	}
	return strings.TrimSuffix(c.stderr.String(), "\n")
}
