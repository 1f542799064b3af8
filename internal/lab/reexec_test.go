// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The tests below run this binary as one of the programs, outside of any lab as far as it can tell.

const programVar = "LAB_TEST_PROGRAM"

// reached is what a program prints once it is in its lab.
const reached = "in the lab"

var programs = map[string]func() int{
	"exit":   inLab(func() int { return 7 }),
	"abort":  inLab(abort),
	"wait":   inLab(waitForSignal),
	"linger": inLab(func() int { select {} }),
	"nested": inLab(func() int {
		if code, err := Reexec(func() int { return 5 }); err != nil || code != 5 {
			return 1
		}
		again := exec.Command("/proc/self/exe")
		again.Env = append(os.Environ(), programVar+"=same place", "OUTER="+placeOf("self"))
		again.Stdout, again.Stderr = os.Stdout, os.Stderr
		if again.Run() != nil {
			return 2
		}
		return 0
	}),
	"same place": inLab(func() int {
		if placeOf("self") != os.Getenv("OUTER") {
			return 1
		}
		return 0
	}),
}

func inLab(run func() int) func() int {
	return func() int {
		code, err := Reexec(func() int {
			fmt.Println(reached)
			return run()
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return code
	}
}

func abort() int {
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	select {}
}

// waitForSignal returns the number of the signal that came, or 1 if it came twice.
func waitForSignal() int {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT)
	fmt.Println("waiting")
	first := <-signals
	select {
	case <-signals:
		return 1
	case <-time.After(20 * time.Millisecond):
		return int(first.(syscall.Signal))
	}
}

// placeOf names the namespaces of a process.
func placeOf(pid string) string {
	network, _ := os.Readlink("/proc/" + pid + "/ns/net")
	mounts, _ := os.Readlink("/proc/" + pid + "/ns/mnt")
	return network + " " + mounts
}

func program(name string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), programVar+"="+name, marker+"=",
		"GORACE=atexit_sleep_ms=0") // the race detector would make each of them end a second late
	return cmd
}

func TestReexecReturnsTheExitCode(t *testing.T) {
	for name, want := range map[string]int{"exit": 7, "abort": 128 + 9, "nested": 0} {
		cmd := program(name)
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("%s: exit code %d, want %d; it says:\n%s", name, got, want, out)
		}
		if !strings.HasPrefix(string(out), reached) {
			t.Errorf("%s never got to its lab:\n%s", name, out)
		}
	}
}

// start runs a program up to where it prints line.
func start(t *testing.T, name, line string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := program(name)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it may have ended
	r := bufio.NewReader(stdout)
	for {
		got, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("%s ended before it printed %q: %v", name, line, err)
		}
		if strings.TrimSpace(got) == line {
			return cmd, r
		}
	}
}

func TestReexecForwardsSignals(t *testing.T) {
	for _, s := range []syscall.Signal{unix.SIGTERM, unix.SIGINT} {
		if s != unix.SIGTERM && inForeground() {
			t.Logf("%v: left to the terminal", s)
			continue
		}
		cmd, _ := start(t, "wait", "waiting")
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		err := cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); got != int(s) {
			t.Errorf("%v: %v, want its number as the exit code", s, err)
		}
	}
}

func TestLabDiesWithItsParent(t *testing.T) {
	cmd, stdout := start(t, "linger", reached)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// The process in the lab holds the other end.
	if _, err := io.Copy(io.Discard, stdout); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("it ended by itself")
	}
}

func TestReexecWithoutRootSaysSo(t *testing.T) {
	cmd := program("exit")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != 1 {
		t.Errorf("exit code %d, want 1", got)
	}
	first, _, _ := strings.Cut(string(out), "\n") // with -cover, the runtime has more to say
	if !strings.HasPrefix(first, "lab: needs root") || !strings.Contains(first, "CAP_SYS_ADMIN") {
		t.Errorf("want one line that says what is missing, got:\n%s", out)
	}
}

// TestMarkerAloneIsNotBelieved has a process in no lab whose environment says otherwise.
func TestMarkerAloneIsNotBelieved(t *testing.T) {
	for _, lie := range []string{"1", "mnt:[1]"} {
		t.Setenv(marker, lie)
		if at, err := where(); at != outside || err != nil {
			t.Errorf("%s: %v, %v; want outside", lie, at, err)
		}
		if _, err := New(Options{}); err == nil {
			t.Errorf("%s: New built a network outside", lie)
		}
	}
}

func TestLabIsPrivate(t *testing.T) {
	if own, parents := placeOf("self"), placeOf(fmt.Sprint(os.Getppid())); own == parents {
		t.Errorf("still in the namespaces of the parent, %s", own)
	}
	for dir, want := range map[string]int64{
		"/run":        unix.TMPFS_MAGIC,
		"/var/run":    unix.TMPFS_MAGIC,
		"/sys/fs/bpf": unix.BPF_FS_MAGIC,
	} {
		var fs unix.Statfs_t
		if err := unix.Statfs(dir, &fs); err != nil {
			t.Error(err)
		} else if fs.Type != want {
			t.Errorf("%s: file system %#x, want %#x", dir, fs.Type, want)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), "shared:") {
		t.Error("a mount still propagates to the outside")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal("lo is down:", err)
	}
	c.Close()
}
