// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lazybpf/lazybpf/pkg/control"
)

func TestStatusJSON(t *testing.T) {
	t.Chdir(t.TempDir())
	want := manyPeers(3)
	fakeDaemon{status: want}.start(t, "wg0.sock")
	code, stdout, stderr := lazybpf(t, "status wg0 -o json --control wg0.sock")
	if code != 0 || stderr != "" || strings.Count(stdout, "\n") != 1 {
		t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
	}
	var got control.Status
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	for line, n := range map[string]int{
		"--state idle": 3, "--state connected,connecting": 1, "--state permanent": 0, "--state connected --state idle": 4,
		"--peer " + want.Peers[2].PublicKey: 1, "--peer " + want.Peers[2].PublicKey + " --state connected": 0,
	} {
		_, stdout, stderr := lazybpf(t, "status wg0 -o json --control wg0.sock "+line)
		var got control.Status
		if err := json.Unmarshal([]byte(stdout), &got); err != nil || len(got.Peers) != n || got.Counts != want.Counts {
			t.Errorf("%s: %d peers, %+v, %v; want %d\n%s", line, len(got.Peers), got.Counts, err, n, stderr)
		}
	}
}

func TestStatusWatch(t *testing.T) {
	t.Chdir(t.TempDir())
	fakeDaemon{status: manyPeers(3)}.start(t, "wg0.sock")
	code, stdout, stderr := untilWrite(t, 2, "status wg0 --watch --control wg0.sock")
	if code != 0 || stderr != "" || strings.Count(stdout, "wg0: attached") != 2 || strings.Contains(stdout, "\x1b") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
}

func TestStatusOfAll(t *testing.T) {
	dir := t.TempDir()
	if _, err := statusClients(dir, nil, "", control.Filter{}); err == nil || !strings.Contains(err.Error(), "lazybpf run IFACE") {
		t.Errorf("without sockets: %v", err)
	}
	if _, err := statusClients(filepath.Join(dir, "missing"), nil, "", control.Filter{}); err == nil || !strings.Contains(err.Error(), "lazybpf run IFACE") {
		t.Errorf("without a directory: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := statusClients(file, nil, "", control.Filter{}); err == nil || strings.Contains(err.Error(), "no interface is managed") {
		t.Errorf("of what cannot be read: %v", err)
	}
	for _, iface := range []string{"wg1", "wg0"} {
		fakeDaemon{status: control.Status{Interface: iface}}.start(t, filepath.Join(dir, iface+".sock"))
	}
	staleSocket(t, filepath.Join(dir, "wg2.sock"))

	clients, err := statusClients(dir, nil, "", control.Filter{})
	if err != nil || len(clients) != 3 {
		t.Fatalf("%v, %v", clients, err)
	}
	var usage usageError
	if _, err := statusClients(dir, nil, "", control.Filter{Peers: []string{"laptop"}}); !errors.As(err, &usage) {
		t.Errorf("a peer of any of three interfaces: %v", err)
	}
	statuses, err := askAll(t.Context(), clients, control.Filter{})
	if !errors.Is(err, control.ErrNotRunning) || !strings.Contains(err.Error(), "wg2.sock") || len(statuses) != 2 {
		t.Errorf("of two alive and one dead: %v, %v", statuses, err)
	}
	var out strings.Builder
	if err := copyAll(t.Context(), &out, clients, control.Filter{}); !errors.Is(err, control.ErrNotRunning) {
		t.Errorf("the dead daemon is not reported: %v", err)
	}
	lines := strings.Split(out.String(), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[0], `{"interface":"wg0"`) || !strings.HasPrefix(lines[1], `{"interface":"wg1"`) {
		t.Errorf("not one object a line:\n%s", out.String())
	}
}

func TestRepeat(t *testing.T) {
	for _, test := range []struct {
		took   time.Duration
		resize bool
		want   int
	}{
		{0, false, 4},                      // at 0, 1, 2 and 3 s
		{200 * time.Millisecond, false, 4}, // the same
		{500 * time.Millisecond, false, 2}, // at 0 and 2 s, to be idle for three quarters of the time
		{0, true, 5},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3500*time.Millisecond)
			defer cancel()
			resized := make(chan os.Signal, 1)
			if test.resize {
				resized <- unix.SIGWINCH
			}
			n := 0
			err := repeat(ctx, time.Second, resized, func(context.Context) error {
				n++
				time.Sleep(test.took)
				return nil
			})
			if err != nil || n != test.want {
				t.Errorf("%+v: %d calls in 3.5 s: %v", test, n, err)
			}
		})
	}
	broken := errors.New("broken")
	if err := repeat(t.Context(), time.Second, nil, func(context.Context) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}
