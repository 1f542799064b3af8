// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestClientStatus(t *testing.T) {
	path, _ := serve(t, fakeBackend{status: func(context.Context) (Status, error) { return sampleStatus(), nil }})
	got, err := NewClient(path).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := withoutNil(sampleStatus()); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	var text strings.Builder
	if err := NewClient(path).CopyStatus(t.Context(), &text); err != nil || text.String() != statusJSON {
		t.Errorf("got %s, %v\nwant %s", text.String(), err, statusJSON)
	}
}

func TestClientPeers(t *testing.T) {
	path, _ := serve(t, fakeBackend{peers: func(_ context.Context, verb string, peers []string) ([]Result, error) {
		return []Result{{Peer: peers[0], State: verb}, {Peer: peers[1], Error: "no handshake"}}, nil
	}})
	client := NewClient(path)
	for verb, do := range map[string]func(context.Context, []string) ([]Result, error){
		"wake": client.Wake, "sleep": client.Sleep, "exclude": client.Exclude, "include": client.Include,
	} {
		got, err := do(t.Context(), []string{"laptop", "10.0.0.2"})
		want := []Result{{Peer: "laptop", State: verb}, {Peer: "10.0.0.2", Error: "no handshake"}}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v, want %+v", verb, got, err, want)
		}
	}
}

func TestClientReload(t *testing.T) {
	var answer error
	path, _ := serve(t, fakeBackend{reload: func() error { return answer }})
	if err := NewClient(path).Reload(t.Context()); err != nil {
		t.Error(err)
	}
	answer = errors.New("configuration: wg0.toml:3: wake: must be one of hold, pass")
	if err := NewClient(path).Reload(t.Context()); err == nil || err.Error() != answer.Error() {
		t.Errorf("error %v, want %v", err, answer)
	}
}

func TestClientErrors(t *testing.T) {
	for _, sentinel := range []error{ErrNoPeer, ErrAmbiguous, ErrStopped} {
		path, _ := serve(t, fakeBackend{peers: func(context.Context, string, []string) ([]Result, error) {
			return nil, fmt.Errorf("%q: %w", "x", sentinel)
		}})
		_, err := NewClient(path).Wake(t.Context(), []string{"x"})
		for _, other := range []error{ErrNoPeer, ErrAmbiguous, ErrStopped} {
			if got, want := errors.Is(err, other), other == sentinel; got != want {
				t.Errorf("errors.Is(%q, %q) is %v", err, other, got)
			}
		}
	}
}

func TestClientEvents(t *testing.T) {
	hangup := errors.New("enough")
	left := make(chan struct{}, 1)
	path, _ := serve(t, fakeBackend{events: func(ctx context.Context, send func(Event) error) error {
		err := errors.Join(send(sampleEvent()), send(sampleEvent()))
		<-ctx.Done()
		left <- struct{}{}
		return err
	}})
	client := NewClient(path)

	n := 0
	err := client.Events(t.Context(), func(e Event) error {
		if e != sampleEvent() {
			t.Errorf("got %+v", e)
		}
		if n++; n == 2 {
			return hangup
		}
		return nil
	})
	if !errors.Is(err, hangup) {
		t.Errorf("got %v, want the error of send", err)
	}
	<-left // the daemon noticed

	ctx, cancel := context.WithCancel(t.Context())
	if err := client.Events(ctx, func(Event) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	<-left
}

func TestClientWithoutDaemon(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "wg0.sock")
	staleSocket(t, stale)
	for _, path := range []string{stale, filepath.Join(dir, "none.sock"), dir} {
		_, err := NewClient(path).Status(t.Context())
		want := "nobody listens on " + path + ": is `lazybpf run IFACE --control " + path + "` running?"
		if !errors.Is(err, ErrNotRunning) || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

func TestClientExplains(t *testing.T) {
	client := NewClient(Path("wg0"))
	for _, test := range []struct {
		err, is error
		want    string
	}{
		{unix.ENOENT, ErrNotRunning, "nobody listens on /run/lazybpf/wg0.sock: is `lazybpf run wg0` running?"},
		{unix.EACCES, fs.ErrPermission, "needs root"},
		{unix.ECONNRESET, ErrStopped, "is `lazybpf run wg0` still running?"},
	} {
		err := client.explain(t.Context(), &net.OpError{Op: "dial", Net: "unix", Err: test.err})
		if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v becomes %q, want %q", test.err, err, test.want)
		}
	}
}

func TestClientBadPath(t *testing.T) {
	_, err := NewClient("/" + strings.Repeat("x", maxPath)).Status(t.Context())
	if err == nil || !strings.Contains(err.Error(), "107 at most") || strings.Contains(err.Error(), "http://") {
		t.Errorf("got %v", err)
	}
}

// TestClientOtherServer has something on the socket that speaks HTTP but is no daemon of this version.
func TestClientOtherServer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wg0.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Second}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	_, err = NewClient(path).Status(t.Context())
	if err == nil || errors.Is(err, ErrNoPeer) || !strings.Contains(err.Error(), "another version") {
		t.Errorf("got %v", err)
	}
}
