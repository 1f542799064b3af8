// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Main is what a TestMain calls: it runs the tests of the package inside a lab and does not return. Where there can be no
// lab it says what is missing and fails; tests that could not run must not look like tests that passed.
func Main(m interface{ Run() int }) {
	code, err := Reexec(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// Reexec calls run inside a lab: a network and a mount namespace of the process's own, in which /run, /var/run and
// /sys/fs/bpf are empty and the loopback interface is up. /sys itself still shows the devices outside.
//
// It takes a second process for that, as threads that exist cannot be moved. Called outside a lab, Reexec starts the running
// program once more with the same arguments, environment, standard input and outputs, passes on the signals that ask it to
// end, and returns its exit code (128 and the signal's number if a signal ended it) without having called run. In that
// second process Reexec builds the lab and returns what run returns. Programs started inside a lab are inside as well: there,
// Reexec just calls run.
//
// Nothing needs to be undone: all of it vanishes with the second process, which dies with the first, by SIGKILL too.
//
// The error matches [fs.ErrPermission] where the process may not make namespaces.
func Reexec(run func() int) (code int, err error) {
	code, err = reexec(run)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return 1, fmt.Errorf("lab: needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN) to make namespaces of its own: %w", err)
	case err != nil:
		return 1, fmt.Errorf("lab: %w", err)
	}
	return code, nil
}

func reexec(run func() int) (code int, err error) {
	at, err := where()
	if err != nil {
		return 0, err
	}
	switch at {
	case outside:
		return runAgain()
	case entering:
		if err := furnish(); err != nil {
			return 0, err
		}
	}
	return run(), nil
}

// marker is the environment variable that tells a process where it stands. It names a mount namespace: the one that Reexec
// was called in, until the lab is furnished; from then on the lab's.
const marker = "LAZYBPF_LAB"

type position int

const (
	outside  position = iota
	entering          // in new namespaces that nobody has furnished
	inside
)

// where looks at the namespaces rather than believe the marker: one that was exported by hand must not make the machine's own
// /run disappear.
func where() (position, error) {
	own, err := mountNamespace(os.Getpid())
	if err != nil {
		return outside, err
	}
	marked := os.Getenv(marker)
	if marked == own {
		return inside, nil
	}
	if parents, err := mountNamespace(os.Getppid()); err == nil && marked == parents {
		return entering, nil
	}
	return outside, nil
}

func mountNamespace(pid int) (string, error) {
	return os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid))
}

// runAgain runs this program in new namespaces and returns its exit code.
func runAgain() (int, error) {
	own, err := mountNamespace(os.Getpid())
	if err != nil {
		return 0, err
	}

	// Pdeathsig is sent when the thread that started the child ends, not the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	child := exec.Command("/proc/self/exe")
	child.Args = os.Args
	child.Env = append(os.Environ(), marker+"="+own)
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}

	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM)
	defer close(signals)
	defer signal.Stop(signals)

	if err := child.Start(); err != nil {
		return 0, err
	}
	go forward(signals, child.Process)

	err = child.Wait()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	status := child.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return status.ExitStatus(), nil
}

// forward passes signals on until the channel is closed. It leaves out those that the terminal sends to the child as well:
// many programs take a second Ctrl-C as a wish to die at once.
func forward(signals <-chan os.Signal, child *os.Process) {
	for s := range signals {
		if s != unix.SIGTERM && inForeground() {
			continue
		}
		_ = child.Signal(s) // fails only if the child is gone
	}
}

// inForeground reports whether the terminal, if there is one, sends its signals to this process's group.
func inForeground() bool {
	terminal, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer terminal.Close()
	group, err := unix.IoctlGetInt(int(terminal.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}
