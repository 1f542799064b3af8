// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/pkg/control"
)

// TestMain runs the tests in a network namespace of their own. For the scripts, the test binary is also the programs below.
func TestMain(m *testing.M) {
	time.Local = time.UTC // events show local time
	testscript.Main(inLab{m}, map[string]func(){
		"lazybpf":      main,
		"unprivileged": unprivileged,
		"as":           as,
	})
}

// inLab is tests that run inside a lab and must leave no goroutine behind.
type inLab struct{ *testing.M }

func (l inLab) Run() int {
	code, err := lab.Reexec(func() int {
		// The scripts wait more than they work. On the command line -parallel still has its way.
		if err := flag.Set("test.parallel", "8"); err != nil {
			panic(err)
		}
		return labtest.LeakFree{M: l.M}.Run()
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// as runs its third argument and those that follow, one of these programs, as
// the user and with the group that the first two are the numbers of.
func as() {
	var who syscall.Credential
	_, err := fmt.Sscan(os.Args[1]+" "+os.Args[2], &who.Uid, &who.Gid)
	if err == nil {
		// The user may have no way to the program's file.
		cmd := exec.Cmd{Path: "/proc/self/exe", Args: os.Args[3:], Stdout: os.Stdout, Stderr: os.Stderr}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &who}
		err = cmd.Run()
	}
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// unprivileged runs its arguments as a command without any capability, whoever its user is.
func unprivileged() {
	path, err := exec.LookPath(os.Args[1])
	if err == nil {
		runtime.LockOSThread()
		for capability := range uintptr(unix.CAP_LAST_CAP + 1) {
			// A kernel need not know all of them.
			_ = unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0)
		}
		err = syscall.Exec(path, os.Args[1:], os.Environ())
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestSignals: a second signal directly after the first does not keep a daemon from giving keepalives back.
func TestSignals(t *testing.T) {
	n := labtest.Network(t, lab.Options{Keepalive: 25 * time.Second})
	cmd := exec.Command("lazybpf", "run", n.Here.Name)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	client := control.NewClient(control.Path(n.Here.Name))
	soon(t, "a peer sleeps", func() bool {
		results, err := client.Sleep(t.Context(), []string{n.There.IPv4.String()})
		return err == nil && results[0].Error == ""
	})
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
			device, err := n.Here.Device()
			if err != nil {
				t.Fatal(err)
			}
			if got := device.Peers[0].PersistentKeepaliveInterval; got != 25*time.Second {
				t.Errorf("the keepalive is %s", got)
			}
			return
		default:
			_ = cmd.Process.Signal(unix.SIGTERM) // it may have ended
		}
	}
}
