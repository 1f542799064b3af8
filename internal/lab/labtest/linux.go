// SPDX-License-Identifier: Apache-2.0

package labtest

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// Linux is a version of the kernel.
type Linux struct{ Major, Minor int }

func (l Linux) String() string { return fmt.Sprintf("%d.%d", l.Major, l.Minor) }

// Before says that the version is an older one: 6.1 comes before 6.12.
func (l Linux) Before(other Linux) bool {
	return l.Major < other.Major || l.Major == other.Major && l.Minor < other.Minor
}

// RunningLinux is the version of this machine's kernel.
func RunningLinux(t testing.TB) Linux {
	t.Helper()
	var system unix.Utsname
	if err := unix.Uname(&system); err != nil {
		t.Fatal(err)
	}
	return ParseLinux(t, unix.ByteSliceToString(system.Release[:]))
}

// ParseLinux takes what `uname -r` prints.
func ParseLinux(t testing.TB, release string) (l Linux) {
	t.Helper()
	if _, err := fmt.Sscanf(release, "%d.%d", &l.Major, &l.Minor); err != nil {
		t.Fatalf("kernel %q: %v", release, err)
	}
	return l
}
