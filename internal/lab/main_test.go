// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"os"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if program, ok := programs[os.Getenv(programVar)]; ok {
		os.Exit(program())
	}
	Main(m)
}

// newNetwork builds a network for the length of a test.
func newNetwork(t *testing.T, opts Options) *Network {
	t.Helper()
	n, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error("Close:", err)
		}
	})
	return n
}

// soon is a context that ends long after what is waited for should have happened.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	t.Cleanup(cancel)
	return ctx
}
