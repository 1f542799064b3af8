// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lazybpf/lazybpf/pkg/control"
)

// request sends what no Client would, and returns the status and body of the answer.
func request(t *testing.T, socket, method, path, body string) (int, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) },
	}}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://lazybpf"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestServeWire(t *testing.T) {
	path, _ := serve(t, fakeBackend{
		status: func(control.Filter) (control.Status, error) { return sampleStatus(), nil },
		events: func(_ context.Context, begin func() error, send func(control.Event) error) error {
			return errors.Join(begin(), send(sampleEvent()))
		},
		peers: func(_ context.Context, verb string, peers []string) ([]control.Result, error) {
			switch peers[0] {
			case "nobody":
				return nil, fmt.Errorf("%q: %w", peers[0], control.ErrNoPeer)
			case "AA":
				return nil, fmt.Errorf("%q: %w", peers[0], control.ErrAmbiguous)
			case "broken":
				return nil, errors.New("no memory")
			}
			return []control.Result{{Peer: verb}}, nil
		},
	})
	result := func(verb string) string {
		return `[{"peer":"` + verb + `","public_key":"","state":"","took":"","error":""}]` + "\n"
	}
	tooLong := `{"peers":["` + strings.Repeat("x", maxBody) + `"]}`
	for _, test := range []struct {
		method, path, body string
		status             int
		want               string // empty: not compared
	}{
		{"GET", "/v1/status", "", 200, statusJSON},
		{"GET", "/v1/events", "", 200, eventJSON},
		{"POST", "/v1/wake", `{"peers":["x"]}`, 200, result("wake")},
		{"POST", "/v1/sleep", `{"peers":["x"]}`, 200, result("sleep")},
		{"POST", "/v1/exclude", `{"peers":["x"]}`, 200, result("exclude")},
		{"POST", "/v1/include", `{"peers":["x"]}`, 200, result("include")},

		{"POST", "/v1/wake", `{"peers":["nobody"]}`, 404, `{"error":"\"nobody\": no such peer","code":"no_peer"}` + "\n"},
		{"POST", "/v1/wake", `{"peers":["AA"]}`, 409, `{"error":"\"AA\": more than one peer matches","code":"ambiguous"}` + "\n"},
		{"POST", "/v1/wake", `{"peers":["broken"]}`, 500, `{"error":"no memory","code":"failed"}` + "\n"},

		{"POST", "/v1/wake", ``, 400, `{"error":"request: the body must be {\"peers\": [\"NAME\", \"NAME\"]}: EOF","code":"bad_request"}` + "\n"},
		{"POST", "/v1/wake", `{}`, 400, `{"error":"request: it names no peers","code":"bad_request"}` + "\n"},
		{"POST", "/v1/wake", `{"peers":"x"}`, 400, ""},
		{"POST", "/v1/wake", `{"peers":["x"],"force":true}`, 400, ""},
		{"POST", "/v1/wake", `{"peers":["x"]} {}`, 400, ""},
		{"POST", "/v1/wake", tooLong, 400, `{"error":"request: the body must be {\"peers\": [\"NAME\", \"NAME\"]}: http: request body too large","code":"bad_request"}` + "\n"},

		{"GET", "/v1/wake", "", 405, ""},
		{"POST", "/v1/status", "", 405, ""},
		{"GET", "/v2/status", "", 404, ""},
	} {
		status, body := request(t, path, test.method, test.path, test.body)
		if status != test.status || (test.want != "" && body != test.want) {
			t.Errorf("%s %s %.40s: %d %s\nwant %d %s", test.method, test.path, test.body, status, body, test.status, test.want)
		}
	}
}

// TestServeFlushes has a backend without events: the client still learns that
// it is subscribed, and not earlier.
func TestServeFlushes(t *testing.T) {
	var subscribed atomic.Bool
	path, _ := serve(t, fakeBackend{events: func(ctx context.Context, begin func() error, _ func(control.Event) error) error {
		subscribed.Store(true)
		if err := begin(); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}})
	changes, err := control.NewClient(path).Subscribe(t.Context())
	if err != nil || !subscribed.Load() {
		t.Fatalf("subscribed %v, %v", subscribed.Load(), err)
	}
	changes.Close()
}

func TestServeStops(t *testing.T) {
	waking := make(chan struct{})
	path, stop := serve(t, fakeBackend{
		events: func(ctx context.Context, begin func() error, _ func(control.Event) error) error {
			if err := begin(); err != nil {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		},
		peers: func(ctx context.Context, _ string, _ []string) ([]control.Result, error) {
			close(waking)
			<-ctx.Done()
			return nil, ctx.Err()
		},
	})
	client := control.NewClient(path)
	ended := make(chan error, 2)
	changes, err := client.Subscribe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer changes.Close()
	go func() {
		_, err := changes.Next()
		ended <- err
	}()
	go func() {
		_, err := client.Wake(t.Context(), []string{"x"})
		ended <- err
	}()
	<-waking
	stop()
	for range 2 {
		if err := <-ended; !errors.Is(err, control.ErrStopped) {
			t.Errorf("got %v, want control.ErrStopped", err)
		}
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// TestServeStopsDespiteStuckClient has a client that asks for events and never reads them.
func TestServeStopsDespiteStuckClient(t *testing.T) {
	ended := make(chan error, 1)
	path, stop := serve(t, fakeBackend{events: func(_ context.Context, begin func() error, send func(control.Event) error) (err error) {
		err = begin()
		defer func() { ended <- err }()
		for err == nil {
			err = send(control.Event{Flow: strings.Repeat("x", 1<<16)})
		}
		return err
	}})
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /v1/events HTTP/1.1\r\nHost: lazybpf\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	stop()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("send never failed")
		}
	case <-time.After(10 * time.Second):
		t.Error("send still blocks")
	}
}

func TestServeListenerFails(t *testing.T) {
	l, err := Listen(t.TempDir()+"/wg0.sock", Group{})
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := (&Server{Backend: fakeBackend{}}).Serve(t.Context(), l); err == nil {
		t.Error("Serve returned nil")
	}
}
