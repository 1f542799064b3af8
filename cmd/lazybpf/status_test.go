// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lazybpf/lazybpf/internal/control"
)

func TestStatusJSON(t *testing.T) {
	t.Chdir(t.TempDir())
	want := sampleStatus()
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
	if strings.Contains(stdout, `\u003e`) {
		t.Error("the flow's > is escaped")
	}
}

func TestStatusWatch(t *testing.T) {
	t.Chdir(t.TempDir())
	fakeDaemon{status: sampleStatus()}.start(t, "wg0.sock")
	code, stdout, stderr := untilWrite(t, 2, "status wg0 --watch --control wg0.sock")
	if code != 0 || stderr != "" || strings.Count(stdout, "wg0: attached") != 2 || strings.Contains(stdout, "\x1b") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
}

func TestStatusOfAll(t *testing.T) {
	dir := t.TempDir()
	if _, err := statusSockets(dir, nil, ""); err == nil || !strings.Contains(err.Error(), "lazybpf run IFACE") {
		t.Errorf("without sockets: %v", err)
	}
	for _, iface := range []string{"wg1", "wg0"} {
		fakeDaemon{status: control.Status{Interface: iface}}.start(t, filepath.Join(dir, iface+".sock"))
	}
	staleSocket(t, filepath.Join(dir, "wg2.sock"))

	paths, err := statusSockets(dir, nil, "")
	if err != nil || len(paths) != 3 {
		t.Fatalf("%v, %v", paths, err)
	}
	statuses, err := askAll(t.Context(), paths)
	if !errors.Is(err, control.ErrNotRunning) || !strings.Contains(err.Error(), "wg2.sock") || len(statuses) != 2 {
		t.Errorf("of two alive and one dead: %v, %v", statuses, err)
	}
	var out strings.Builder
	if err := copyAll(t.Context(), &out, paths); !errors.Is(err, control.ErrNotRunning) {
		t.Errorf("the dead daemon is not reported: %v", err)
	}
	lines := strings.Split(out.String(), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[0], `{"interface":"wg0"`) || !strings.HasPrefix(lines[1], `{"interface":"wg1"`) {
		t.Errorf("not one object a line:\n%s", out.String())
	}
}

func TestRepeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3500*time.Millisecond)
		defer cancel()
		n := 0
		if err := repeat(ctx, time.Second, func(context.Context) error { n++; return nil }); err != nil || n != 4 {
			t.Errorf("%d calls in 3.5 s: %v", n, err)
		}
	})
	broken := errors.New("broken")
	if err := repeat(t.Context(), time.Second, func(context.Context) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}
