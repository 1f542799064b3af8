// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/lazybpf/lazybpf/pkg/control"
)

// ErrRunning is what [Listen] returns when somebody already listens on the path.
var ErrRunning = errors.New("another lazybpf is running")

// Listen makes the control socket, and its directory, mode 0755, where that is
// missing. The socket has mode 0600, or with readers, whose group it then has,
// 0660. A socket that nobody listens on any more is replaced; anything else
// that stands at path is left alone and is an error: [ErrRunning] if it answers.
func Listen(path string, readers Group) (net.Listener, error) {
	if err := control.CheckPath(path); err != nil {
		return nil, err
	}
	if err := makeDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("directory of the control socket: %w", err)
	}
	l, err := listen(path)
	if errors.Is(err, unix.EADDRINUSE) {
		if err := removeStale(path); err != nil {
			return nil, err
		}
		l, err = listen(path)
	}
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if readers != (Group{}) {
		if err := share(path, readers); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}

// makeDir makes a directory that everybody can enter, whatever the umask.
func makeDir(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	return os.Chmod(path, 0o755)
}

// share lets a group connect. The group comes first: at no time may another.
func share(path string, readers Group) error {
	if err := os.Lchown(path, -1, int(readers.ID)); err != nil {
		return fmt.Errorf("control socket for group %s: %w: lazybpf must be in that group, or have CAP_CHOWN", readers, err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return fmt.Errorf("control socket for group %s: %w", readers, err)
	}
	return nil
}

// listen binds a socket whose mode is already 0600: Linux gives the file the mode of the socket's own inode, less the
// umask. A chmod after bind would come too late, and a umask is shared by all threads.
func listen(path string) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) error {
		var chmod error
		err := conn.Control(func(fd uintptr) { chmod = unix.Fchmod(int(fd), 0o600) })
		return errors.Join(err, chmod)
	}}
	return config.Listen(context.Background(), "unix", path)
}

// removeStale removes the socket that a daemon left behind when it did not end cleanly.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("control socket: %s exists and is not a socket: move it away, or give another path", path)
	}
	conn, err := net.Dial("unix", path)
	switch {
	case err == nil:
		conn.Close()
		return fmt.Errorf("%w on %s: stop it first", ErrRunning, path)
	case errors.Is(err, unix.EAGAIN): // its queue of connections is full
		return fmt.Errorf("%w on %s, but does not answer: stop it first", ErrRunning, path)
	case errors.Is(err, unix.ECONNREFUSED):
		return os.Remove(path)
	default:
		return fmt.Errorf("control socket: %w", err)
	}
}
