// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestForbidCore looks at what commands that read devices leave behind in the process, here this one.
func TestForbidCore(t *testing.T) {
	t.Cleanup(func() {
		if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
			t.Error(err)
		}
	})
	for _, line := range []string{"run nosuch0", "restore nosuch0 --control " + t.TempDir() + "/nosuch0.sock"} {
		if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
			t.Fatal(err)
		}
		_, _, _ = lazybpf(t, line)
		if dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || dumpable != 0 {
			t.Errorf("lazybpf %s: a core file could be written: %d, %v", line, dumpable, err)
		}
	}
}
