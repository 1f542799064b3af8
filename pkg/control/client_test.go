// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestClientWithoutDaemon(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "wg0.sock")
	l, err := net.Listen("unix", stale)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // as a killed daemon leaves it
	l.Close()
	for _, path := range []string{stale, filepath.Join(dir, "none.sock"), dir} {
		_, err := NewClient(path).Status(t.Context(), Filter{})
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
		{unix.EPIPE, ErrStopped, "is `lazybpf run wg0` still running?"},
		{unix.ECONNRESET, ErrStopped, "is `lazybpf run wg0` still running?"},
	} {
		err := client.explain(t.Context(), &net.OpError{Op: "dial", Net: "unix", Err: test.err})
		if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v becomes %q, want %q", test.err, err, test.want)
		}
	}
}

func TestClientBadPath(t *testing.T) {
	_, err := NewClient("/"+strings.Repeat("x", MaxPath)).Status(t.Context(), Filter{})
	if err == nil || !strings.Contains(err.Error(), "107 at most") || strings.Contains(err.Error(), "http://") {
		t.Errorf("got %v", err)
	}
}
