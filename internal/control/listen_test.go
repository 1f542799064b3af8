// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestListenMode(t *testing.T) {
	// Whatever the umask lets through must have been closed before bind.
	defer unix.Umask(unix.Umask(0))
	path := filepath.Join(t.TempDir(), "run", "wg0.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for name, want := range map[string]fs.FileMode{path: fs.ModeSocket | 0o600, filepath.Dir(path): fs.ModeDir | 0o755} {
		info, err := os.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("mode of %s is %v, want %v", name, info.Mode(), want)
		}
	}
}

func TestListenReplacesStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wg0.sock")
	staleSocket(t, path)
	l, err := Listen(path)
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
	_, err := Listen(path)
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

	if _, err := Listen(path); !errors.Is(err, ErrRunning) {
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
	long := filepath.Join(dir, strings.Repeat("x", maxPath))
	for _, test := range []struct{ path, want string }{
		{file, "is not a socket"},
		{link, "is not a socket"},
		{dir, "is not a socket"},
		{filepath.Join(file, "wg0.sock"), "not a directory"},
		{long, "107 at most"},
		{"@wg0", "abstract"},
		{"", "empty"},
	} {
		l, err := Listen(test.path)
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
	path := filepath.Join(dir, strings.Repeat("x", maxPath-len(dir)-1))
	l, err := Listen(path)
	if err != nil {
		t.Fatalf("%d bytes: %v", len(path), err)
	}
	l.Close()
}
