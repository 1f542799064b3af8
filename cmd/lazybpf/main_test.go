// SPDX-License-Identifier: Apache-2.0

package main

import (
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
)

// TestMain runs the tests in a network namespace of their own. For the scripts, the test binary is also the programs below.
func TestMain(m *testing.M) {
	time.Local = time.UTC // events show local time
	testscript.Main(inLab{m}, map[string]func(){
		"lazybpf":      main,
		"unprivileged": unprivileged,
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
