// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/lazybpf/lazybpf/pkg/control"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(asking); path != "" {
		ask(path)
		return
	}
	goleak.VerifyTestMain(m)
}

// fakeBackend answers with what its test gave it.
type fakeBackend struct {
	status func(control.Filter) (control.Status, error)
	events func(ctx context.Context, begin func() error, send func(control.Event) error) error
	peers  func(ctx context.Context, verb string, peers []string) ([]control.Result, error)
	reload func() error
}

func (f fakeBackend) Status(_ context.Context, filter control.Filter) (control.Status, error) {
	return f.status(filter)
}

func (f fakeBackend) Events(ctx context.Context, begin func() error, send func(control.Event) error) error {
	return f.events(ctx, begin, send)
}

func (f fakeBackend) Wake(ctx context.Context, peers []string) ([]control.Result, error) {
	return f.peers(ctx, "wake", peers)
}

func (f fakeBackend) Sleep(ctx context.Context, peers []string) ([]control.Result, error) {
	return f.peers(ctx, "sleep", peers)
}

func (f fakeBackend) Exclude(ctx context.Context, peers []string) ([]control.Result, error) {
	return f.peers(ctx, "exclude", peers)
}

func (f fakeBackend) Include(ctx context.Context, peers []string) ([]control.Result, error) {
	return f.peers(ctx, "include", peers)
}

func (f fakeBackend) Reload(context.Context) error { return f.reload() }

// serve runs a server for root until the test ends, or stop is called, and
// returns the path of its socket.
func serve(t *testing.T, backend Backend) (path string, stop func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "wg0.sock")
	return path, start(t, path, &Server{Backend: backend})
}

// start is serve with a server of the test's own.
func start(t *testing.T, path string, s *Server) (stop func()) {
	t.Helper()
	l, err := Listen(path, s.Readers)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

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
