// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lazybpf/lazybpf/bench/baseline"
)

// newListeners makes listeners of the usual design. They leave WireGuard alone.
func newListeners(b testing.TB) *baseline.Listeners {
	b.Helper()
	// As many files as this process may have.
	var limit unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	if err == nil {
		limit.Cur = limit.Max
		err = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	}
	if err != nil {
		b.Fatal(err)
	}
	return baseline.New(nil)
}

// ports are those that the kernel gives to sockets that ask for none.
func ports(b testing.TB) int {
	b.Helper()
	var first, last int
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err == nil {
		_, err = fmt.Sscan(string(text), &first, &last)
	}
	if err != nil {
		b.Fatal(err)
	}
	return last - first + 1
}

// untilFull arms peers of the usual design until there are no more ports, or no
// more files.
func untilFull(b testing.TB, l *baseline.Listeners) int {
	b.Helper()
	for peer := 0; ; peer++ {
		err := l.Arm(keyOf(peer))
		if errors.Is(err, unix.EADDRINUSE) || errors.Is(err, unix.EMFILE) {
			return peer
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
