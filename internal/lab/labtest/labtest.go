// SPDX-License-Identifier: Apache-2.0

// Package labtest is what tests on networks of package lab have in common.
package labtest

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/lazybpf/lazybpf/internal/lab"
)

// Main is for TestMain: it runs the tests inside a lab, where they must leave no goroutine behind, and exits.
func Main(m *testing.M) { lab.Main(LeakFree{m}) }

// LeakFree is tests that fail if a goroutine is left at their end.
type LeakFree struct{ *testing.M }

// Run returns the exit code.
func (l LeakFree) Run() int {
	if code := l.M.Run(); code != 0 {
		return code
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// Network builds a network for the length of a test.
func Network(t testing.TB, opts lab.Options) *lab.Network {
	t.Helper()
	n, err := lab.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}
