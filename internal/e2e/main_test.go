// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
)

func TestMain(m *testing.M) {
	if order, ok := os.LookupEnv(childVar); ok {
		os.Exit(runChild(order))
	}
	labtest.Main(m)
}

// patience is how long a test waits for what should happen at once. No test passes by it.
const patience = 30 * time.Second

// soon is a context that ends long after what is waited for should have happened.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// await waits until the condition holds.
func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

// serveEcho has There send back what it receives, for the length of a test.
func serveEcho(t testing.TB, n *lab.Network) *lab.Echo {
	t.Helper()
	e, err := n.There.ServeEcho()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}
