// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"fmt"
	"io/fs"
)

// What an error of a [Client] can wrap; errors.Is finds it.
var (
	// ErrNoPeer: a name means no peer of the interface. Nothing was done.
	ErrNoPeer = errors.New("no such peer")
	// ErrAmbiguous: a name means several peers. Nothing was done.
	ErrAmbiguous = errors.New("more than one peer matches")
	// ErrForbidden: this user may not do that. It wraps fs.ErrPermission.
	ErrForbidden = fmt.Errorf("%w", fs.ErrPermission)
	// ErrStopped: the daemon ended while it was asked. What was asked for may
	// have been done.
	ErrStopped = errors.New("the daemon stopped answering")
	// ErrNoInterface: the daemon waits for its interface, so there are no peers.
	ErrNoInterface = errors.New("interface is gone")
	// ErrNotRunning: nobody listens on the socket.
	ErrNotRunning = errors.New("nobody listens")
)

// The codes of an [Error].
const (
	CodeNoPeer      = "no_peer"      // [ErrNoPeer]
	CodeAmbiguous   = "ambiguous"    // [ErrAmbiguous]
	CodeForbidden   = "forbidden"    // [ErrForbidden]
	CodeStopped     = "stopped"      // [ErrStopped]
	CodeNoInterface = "no_interface" // [ErrNoInterface]
	CodeBadRequest  = "bad_request"  // the request is none of this version
	CodeFailed      = "failed"       // anything else, and the text says what
)

var sentinels = map[string]error{
	CodeNoPeer: ErrNoPeer, CodeAmbiguous: ErrAmbiguous, CodeForbidden: ErrForbidden, CodeStopped: ErrStopped,
	CodeNoInterface: ErrNoInterface,
}

// Error is the daemon's answer to a request that failed. A [Client] returns it
// as a *Error, which also is the error of its code: errors.Is(err, ErrNoPeer).
type Error struct {
	Text string `json:"error"` // one line that says what is wrong and what to do
	Code string `json:"code"`  // of the Code constants, or of a newer daemon
}

// Error is the text.
func (e *Error) Error() string { return e.Text }

// Is says whether target is what the code stands for.
func (e *Error) Is(target error) bool {
	sentinel, ok := sentinels[e.Code]
	return ok && errors.Is(sentinel, target)
}
