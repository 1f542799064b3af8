// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lazybpf/lazybpf/pkg/control"
)

func TestListenMode(t *testing.T) {
	defer unix.Umask(unix.Umask(0))
	for _, test := range []struct {
		umask   int // what it lets through must have been closed before bind
		readers Group
		want    fs.FileMode
	}{
		{0, Group{}, 0o600},
		{0o077, Group{}, 0o600},
		{0, Group{Name: "lazybpf", ID: readers}, 0o660},
		{0o077, Group{Name: "lazybpf", ID: readers}, 0o660},
	} {
		unix.Umask(test.umask)
		path := filepath.Join(t.TempDir(), "run", "wg0.sock")
		l, err := Listen(path, test.readers)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		for name, want := range map[string]fs.FileMode{path: fs.ModeSocket | test.want, filepath.Dir(path): fs.ModeDir | 0o755} {
			info, err := os.Lstat(name)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode() != want {
				t.Errorf("%+v: mode of %s is %v, want %v", test, name, info.Mode(), want)
			}
			if gid := info.Sys().(*syscall.Stat_t).Gid; name == path && gid != test.readers.ID {
				t.Errorf("%+v: group %d", test, gid)
			}
		}
	}
}

func TestListenReplacesStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wg0.sock")
	staleSocket(t, path)
	l, err := Listen(path, Group{})
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there after Close: %v", err)
	}
}

func TestListenRefusesRunningDaemon(t *testing.T) {
	path, _ := serve(t, fakeBackend{})
	_, err := Listen(path, Group{})
	if !errors.Is(err, ErrRunning) || !strings.Contains(err.Error(), path) {
		t.Fatalf("got %v, want ErrRunning with the path", err)
	}
	if conn, err := net.Dial("unix", path); err != nil {
		t.Errorf("the running daemon lost its socket: %v", err)
	} else {
		conn.Close()
	}
}

// TestListenRefusesSilentDaemon has a daemon that accepts nothing, and a full queue of connections before it.
func TestListenRefusesSilentDaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wg0.sock")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	if _, err := Listen(path, Group{}); !errors.Is(err, ErrRunning) {
		t.Errorf("got %v, want ErrRunning", err)
	}
}

func TestListenRefusesPath(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(dir, strings.Repeat("x", control.MaxPath))
	for _, test := range []struct{ path, want string }{
		{file, "is not a socket"},
		{link, "is not a socket"},
		{dir, "is not a socket"},
		{filepath.Join(file, "wg0.sock"), "not a directory"},
		{long, "107 at most"},
		{"@wg0", "abstract"},
		{"", "empty"},
	} {
		l, err := Listen(test.path, Group{})
		if err == nil {
			l.Close()
			t.Errorf("Listen(%q) succeeded", test.path)
			continue
		}
		if !strings.Contains(err.Error(), test.want) {
			t.Errorf("Listen(%q): %q does not say %q", test.path, err, test.want)
		}
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "precious" {
		t.Errorf("the file was touched: %q, %v", text, err)
	}
}

func TestListenLongestPath(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, strings.Repeat("x", control.MaxPath-len(dir)-1))
	l, err := Listen(path, Group{})
	if err != nil {
		t.Fatalf("%d bytes: %v", len(path), err)
	}
	l.Close()
}
