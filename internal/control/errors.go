// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"net/http"
)

// Errors that cross the socket: what a [Backend] wraps is what [errors.Is] finds at the [Client].
var (
	ErrNoPeer    = errors.New("no such peer")
	ErrAmbiguous = errors.New("more than one peer matches")
	ErrStopped   = errors.New("the daemon stopped answering")
	// ErrNoInterface: the daemon waits for its interface, so there are no peers.
	ErrNoInterface = errors.New("interface is gone")
)

// ErrNotRunning is what a [Client] returns when nobody listens on its socket.
var ErrNotRunning = errors.New("nobody listens")

// ErrRunning is what [Listen] returns when somebody already listens on the path.
var ErrRunning = errors.New("another lazybpf is running")

var wireErrors = []struct {
	err    error
	status int
	code   string
}{
	{ErrNoPeer, http.StatusNotFound, "no_peer"},
	{ErrAmbiguous, http.StatusConflict, "ambiguous"},
	{ErrStopped, http.StatusServiceUnavailable, "stopped"},
	{ErrNoInterface, http.StatusServiceUnavailable, "no_interface"},
}

// wireError is an error as it crosses the socket.
type wireError struct {
	Text string `json:"error"`
	Code string `json:"code"`
}

func (e *wireError) Error() string { return e.Text }

func (e *wireError) Is(target error) bool {
	for _, w := range wireErrors {
		if w.code == e.Code {
			return w.err == target
		}
	}
	return false
}

// encodeError returns the answer to a request that failed with err.
func encodeError(err error) (status int, body *wireError) {
	for _, w := range wireErrors {
		if errors.Is(err, w.err) {
			return w.status, &wireError{err.Error(), w.code}
		}
	}
	return http.StatusInternalServerError, &wireError{err.Error(), "failed"}
}
