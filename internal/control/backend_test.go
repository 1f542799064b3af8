// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeBackend answers with what its test gave it.
type fakeBackend struct {
	status func(context.Context) (Status, error)
	keys   map[string]string // by what the peers are named
	events func(context.Context, func(Event) error) error
	peers  func(ctx context.Context, verb string, peers []string) ([]Result, error)
	reload func() error
}

func (f fakeBackend) Status(ctx context.Context) (Status, error) { return f.status(ctx) }

func (f fakeBackend) Resolve(_ context.Context, peers []string) (keys []string, err error) {
	for _, peer := range peers {
		key, ok := f.keys[peer]
		if !ok {
			return nil, fmt.Errorf("%w: %s", ErrNoPeer, peer)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func (f fakeBackend) Events(ctx context.Context, send func(Event) error) error {
	return f.events(ctx, send)
}

func (f fakeBackend) Wake(ctx context.Context, peers []string) ([]Result, error) {
	return f.peers(ctx, "wake", peers)
}

func (f fakeBackend) Sleep(ctx context.Context, peers []string) ([]Result, error) {
	return f.peers(ctx, "sleep", peers)
}

func (f fakeBackend) Exclude(ctx context.Context, peers []string) ([]Result, error) {
	return f.peers(ctx, "exclude", peers)
}

func (f fakeBackend) Include(ctx context.Context, peers []string) ([]Result, error) {
	return f.peers(ctx, "include", peers)
}

func (f fakeBackend) Reload(context.Context) error { return f.reload() }

// serve runs a server until the test ends, or stop is called, and returns the path of its socket.
func serve(t *testing.T, backend Backend) (path string, stop func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "wg0.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l, backend) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return path, stop
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
