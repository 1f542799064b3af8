// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lazybpf/lazybpf/internal/server"
	"github.com/lazybpf/lazybpf/pkg/control"
)

// fakeDaemon answers with what its test gave it. Its events are sent to each client that listens.
type fakeDaemon struct {
	status control.Status
	events []control.Event
	peers  func(verb string, peers []string) ([]control.Result, error)
}

// Status knows peers by their public keys alone, and heeds no time.
func (f fakeDaemon) Status(_ context.Context, filter control.Filter) (control.Status, error) {
	status := f.status
	status.Peers = nil
	for _, p := range f.status.Peers {
		if (len(filter.Kinds) == 0 || slices.Contains(filter.Kinds, p.Kind())) &&
			(len(filter.Peers) == 0 || slices.Contains(filter.Peers, p.PublicKey)) {
			status.Peers = append(status.Peers, p)
		}
	}
	for _, name := range filter.Peers {
		if !slices.ContainsFunc(f.status.Peers, func(p control.Peer) bool { return p.PublicKey == name }) {
			return control.Status{}, fmt.Errorf("%w: %s", control.ErrNoPeer, name)
		}
	}
	return status, nil
}

func (f fakeDaemon) Events(ctx context.Context, begin func() error, send func(control.Event) error) error {
	if err := begin(); err != nil {
		return err
	}
	for _, e := range f.events {
		if err := send(e); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

func (f fakeDaemon) Wake(_ context.Context, peers []string) ([]control.Result, error) {
	return f.peers("wake", peers)
}

func (f fakeDaemon) Sleep(_ context.Context, peers []string) ([]control.Result, error) {
	return f.peers("sleep", peers)
}

func (f fakeDaemon) Exclude(_ context.Context, peers []string) ([]control.Result, error) {
	return f.peers("exclude", peers)
}

func (f fakeDaemon) Include(_ context.Context, peers []string) ([]control.Result, error) {
	return f.peers("include", peers)
}

func (f fakeDaemon) Reload(context.Context) error { return errors.New("it is a fake") }

var clock = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func before(d time.Duration) *time.Time { return new(clock.Add(-d)) }

// start serves on a path until the test ends or stop is called.
func (f fakeDaemon) start(t *testing.T, path string) (stop func()) {
	t.Helper()
	l, err := server.Listen(path, server.Group{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- (&server.Server{Backend: f}).Serve(ctx, l) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// lazybpf runs a command line, and returns what a shell would see of it.
func lazybpf(t *testing.T, line string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	code = run(t.Context(), strings.Fields(line), &out, &errs)
	return code, out.String(), errs.String()
}

// untilWrite runs a command line that is interrupted as it writes its n-th text.
func untilWrite(t *testing.T, n int, line string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out, errs strings.Builder
	code = run(ctx, strings.Fields(line), writerFunc(func(p []byte) (int, error) {
		if n--; n == 0 {
			cancel()
		}
		return out.Write(p)
	}), &errs)
	return code, out.String(), errs.String()
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// staleSocket leaves a socket on which nobody listens, as a killed daemon does.
func staleSocket(t *testing.T, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
}
