// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/lazybpf/lazybpf/pkg/control"
)

func TestClientStatus(t *testing.T) {
	path, _ := serve(t, fakeBackend{status: func(control.Filter) (control.Status, error) { return sampleStatus(), nil }})
	got, err := control.NewClient(path).Status(t.Context(), control.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	if want := withoutNil(sampleStatus()); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	var text strings.Builder
	if err := control.NewClient(path).CopyStatus(t.Context(), &text, control.Filter{}); err != nil || text.String() != statusJSON {
		t.Errorf("got %s, %v\nwant %s", text.String(), err, statusJSON)
	}
}

func TestClientPeers(t *testing.T) {
	path, _ := serve(t, fakeBackend{peers: func(_ context.Context, verb string, peers []string) ([]control.Result, error) {
		return []control.Result{{Peer: peers[0], State: verb}, {Peer: peers[1], Error: "no handshake"}}, nil
	}})
	client := control.NewClient(path)
	for verb, do := range map[string]func(context.Context, []string) ([]control.Result, error){
		"wake": client.Wake, "sleep": client.Sleep, "exclude": client.Exclude, "include": client.Include,
	} {
		got, err := do(t.Context(), []string{"laptop", "10.0.0.2"})
		want := []control.Result{{Peer: "laptop", State: verb}, {Peer: "10.0.0.2", Error: "no handshake"}}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v, want %+v", verb, got, err, want)
		}
	}
}

func TestClientReload(t *testing.T) {
	var answer error
	path, _ := serve(t, fakeBackend{reload: func() error { return answer }})
	if err := control.NewClient(path).Reload(t.Context()); err != nil {
		t.Error(err)
	}
	answer = errors.New("configuration: wg0.toml:3: wake: must be one of hold, pass")
	if err := control.NewClient(path).Reload(t.Context()); err == nil || err.Error() != answer.Error() {
		t.Errorf("error %v, want %v", err, answer)
	}
}

func TestClientErrors(t *testing.T) {
	sentinels := []error{control.ErrNoPeer, control.ErrAmbiguous, control.ErrForbidden, control.ErrStopped}
	for _, sentinel := range sentinels {
		path, _ := serve(t, fakeBackend{peers: func(context.Context, string, []string) ([]control.Result, error) {
			return nil, fmt.Errorf("%q: %w", "x", sentinel)
		}})
		_, err := control.NewClient(path).Wake(t.Context(), []string{"x"})
		for _, other := range sentinels {
			if got, want := errors.Is(err, other), other == sentinel; got != want {
				t.Errorf("errors.Is(%q, %q) is %v", err, other, got)
			}
		}
	}
}

func TestClientEvents(t *testing.T) {
	left := make(chan struct{}, 1)
	path, _ := serve(t, fakeBackend{events: func(ctx context.Context, begin func() error, send func(control.Event) error) error {
		err := errors.Join(begin(), send(sampleEvent()), send(sampleEvent()))
		<-ctx.Done()
		left <- struct{}{}
		return err
	}})
	client := control.NewClient(path)

	changes, err := client.Subscribe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if e, err := changes.Next(); err != nil || e != sampleEvent() {
			t.Errorf("got %+v, %v", e, err)
		}
	}
	changes.Close()
	<-left // the daemon noticed

	ctx, cancel := context.WithCancel(t.Context())
	changes, err = client.Subscribe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer changes.Close()
	cancel()
	for err == nil {
		_, err = changes.Next()
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	<-left
}

// TestClientNoEvents has a backend that cannot follow: the client learns why.
func TestClientNoEvents(t *testing.T) {
	path, _ := serve(t, fakeBackend{events: func(context.Context, func() error, func(control.Event) error) error {
		return errors.New("the manager is closed")
	}})
	var failure *control.Error
	if _, err := control.NewClient(path).Subscribe(t.Context()); !errors.As(err, &failure) ||
		failure.Code != control.CodeFailed || failure.Text != "the manager is closed" {
		t.Errorf("got %v", err)
	}
}

// TestClientOtherServer has something on the socket that speaks HTTP but is no daemon of this version.
func TestClientOtherServer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wg0.sock")
	l, err := Listen(path, Group{})
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Second}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	_, err = control.NewClient(path).Status(t.Context(), control.Filter{})
	if err == nil || errors.Is(err, control.ErrNoPeer) || !strings.Contains(err.Error(), "another version") {
		t.Errorf("got %v", err)
	}
}
