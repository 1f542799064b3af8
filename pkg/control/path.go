// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"fmt"
	"path/filepath"
)

// Dir holds the sockets of the daemons that were not told to use another path,
// IFACE.sock each.
const Dir = "/run/lazybpf"

// Path is where the daemon of an interface listens by default.
func Path(iface string) string {
	return filepath.Join(Dir, iface+".sock")
}

// MaxPath is how many bytes the path of a socket may have: what fits into
// sockaddr_un with its closing NUL; see unix(7).
const MaxPath = 107

// CheckPath returns an error that says why path cannot be that of a control
// socket; nil if it can.
func CheckPath(path string) error {
	switch {
	case path == "":
		return errors.New("the path of the control socket is empty")
	case path[0] == '@':
		// Go would make an abstract socket of it, and those have no
		// permissions: every user could connect.
		return fmt.Errorf("control socket %q: an abstract socket would be open to everybody: give the path of a file", path)
	case len(path) > MaxPath:
		return fmt.Errorf("control socket %q: the path has %d bytes, and a Unix socket takes %d at most", path, len(path), MaxPath)
	}
	return nil
}
