// SPDX-License-Identifier: Apache-2.0

// Package control is how the commands talk to a running daemon: HTTP and JSON over a Unix socket that only its owner,
// which is root, may open.
//
//	GET  /v1/status?state=…&peer=…&since=…   one [Status], with the peers of a [Filter]
//	GET  /v1/events                          one [Event] a line, for as long as the client listens
//	POST /v1/wake, sleep, exclude, include   {"peers": ["…"]}, answered by one [Result] for each peer
//	POST /v1/reload                       no body; answered by {}
//
// The daemon gives a [Backend] to [Serve]; a command has the same methods on a [Client]. Errors cross the socket as
// {"error": "…", "code": "…"}, and those that a caller can act on are sentinels again on the other side.
package control

import (
	"errors"
	"fmt"
	"path/filepath"
)

// Dir holds the control sockets of the daemons that were not told to use another path.
const Dir = "/run/lazybpf"

// Path is where the daemon of an interface listens by default.
func Path(iface string) string {
	return filepath.Join(Dir, iface+".sock")
}

// maxPath is what fits into sockaddr_un with its closing NUL; see unix(7).
const maxPath = 107

func checkPath(path string) error {
	switch {
	case path == "":
		return errors.New("the path of the control socket is empty")
	case path[0] == '@':
		// Go would make an abstract socket of it, and those have no permissions: every user could connect.
		return fmt.Errorf("control socket %q: an abstract socket would be open to everybody: give the path of a file", path)
	case len(path) > maxPath:
		return fmt.Errorf("control socket %q: the path has %d bytes, and a Unix socket takes %d at most", path, len(path), maxPath)
	}
	return nil
}
