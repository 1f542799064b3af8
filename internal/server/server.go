// SPDX-License-Identifier: Apache-2.0

// Package server is the daemon's side of the control socket: HTTP and JSON
// over a Unix socket, for the types and the client of pkg/control. The daemon
// gives a [Backend] to a [Server]. docs/api.md describes what programs see.
package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/lazybpf/lazybpf/pkg/control"
)

// Backend is what the daemon does for its clients. Its methods run concurrently
// and return soon after ctx is done. Names of peers, results and errors are as
// for [control.Client].
type Backend interface {
	// Status changes nothing: no peer wakes because somebody looked. What it
	// returns belongs to the caller.
	Status(ctx context.Context, filter control.Filter) (control.Status, error)
	// Events calls begin once it follows what changes, and then send for each
	// change, one call at a time, until ctx is done or one of both fails. A
	// send lasts as long as its client is slow: it must hold up nobody else.
	Events(ctx context.Context, begin func() error, send func(control.Event) error) error
	Wake(ctx context.Context, peers []string) ([]control.Result, error)
	Sleep(ctx context.Context, peers []string) ([]control.Result, error)
	Exclude(ctx context.Context, peers []string) ([]control.Result, error)
	Include(ctx context.Context, peers []string) ([]control.Result, error)
	// Reload reads the configuration again, and applies it whole or not at all.
	Reload(ctx context.Context) error
}

// Server answers the clients of one daemon. Root and the daemon's own user may
// do all.
type Server struct {
	Backend Backend
	Readers Group              // may also look
	Log     logrus.FieldLogger // of refused requests

	refused refusals
}

const (
	maxBody       = 1 << 20 // room for 20,000 public keys
	headerTimeout = 5 * time.Second
	shutdownGrace = time.Second // for streams to end cleanly before their connections are closed
)

// Serve answers clients on l, which [Listen] has made, until ctx is done. That
// also ends the requests under way. Then it closes l, which removes its socket.
// It returns nil for an end that ctx asked for.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: headerTimeout,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       withClient,
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		shutdown(srv)
	})
	err := srv.Serve(&crowd{Listener: l, refuse: s.refuse, open: make(map[uint32]int)})
	if stop() {
		srv.Close()
		return fmt.Errorf("control socket: %w", err)
	}
	<-ended
	return nil
}

// shutdown closes connections that did not end in time: of clients that do not read what they asked for.
func shutdown(srv *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownGrace)
	defer cancel()
	if srv.Shutdown(ctx) != nil {
		srv.Close()
	}
}

// routes are all that there is to ask for; docs/api.md has each.
var routes = []struct {
	pattern string
	right   right
	handler func(Backend) http.HandlerFunc
}{
	{"GET /v1/status", reads, serveStatus},
	{"GET /v1/events", reads, serveEvents},
	{"POST /v1/wake", acts, func(b Backend) http.HandlerFunc { return servePeers(b.Wake) }},
	{"POST /v1/sleep", acts, func(b Backend) http.HandlerFunc { return servePeers(b.Sleep) }},
	{"POST /v1/exclude", acts, func(b Backend) http.HandlerFunc { return servePeers(b.Exclude) }},
	{"POST /v1/include", acts, func(b Backend) http.HandlerFunc { return servePeers(b.Include) }},
	{"POST /v1/reload", acts, serveReload},
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	for _, r := range routes {
		mux.Handle(r.pattern, s.guard(r.right, r.handler(s.Backend)))
	}
	return s.guard(reads, mux) // who may not even look does not learn what there is
}

func serveStatus(b Backend) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		filter, err := parseFilter(r.URL.RawQuery)
		if err != nil {
			writeBadRequest(w, err)
			return
		}
		status, err := b.Status(r.Context(), filter)
		if err != nil {
			writeError(w, r, err)
			return
		}
		writeJSON(w, http.StatusOK, withoutNil(status))
	}
}

// withoutNil makes empty lists [] in JSON, where Go would write null.
func withoutNil(s control.Status) control.Status {
	if s.Peers == nil {
		s.Peers = []control.Peer{}
	}
	for i := range s.Peers {
		if s.Peers[i].AllowedIPs == nil {
			s.Peers[i].AllowedIPs = []string{}
		}
	}
	return s
}

func serveEvents(b Backend) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		begun := false
		flush := http.NewResponseController(w).Flush
		enc := control.NewEncoder(w)
		err := b.Events(r.Context(), func() error {
			begun = true
			w.Header().Set("Content-Type", "application/x-ndjson")
			w.WriteHeader(http.StatusOK)
			return flush()
		}, func(e control.Event) error {
			if err := enc.Encode(e); err != nil {
				return err
			}
			return flush()
		})
		if !begun { // else an error can only end the answer
			writeError(w, r, err)
		}
	}
}

func servePeers(do func(context.Context, []string) ([]control.Result, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		peers, err := readPeers(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			writeBadRequest(w, err)
			return
		}
		results, err := do(r.Context(), peers)
		if err != nil {
			writeError(w, r, err)
			return
		}
		writeJSON(w, http.StatusOK, results)
	}
}

func serveReload(b Backend) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := b.Reload(r.Context()); err != nil {
			writeError(w, r, err)
			return
		}
		writeJSON(w, http.StatusOK, struct{}{})
	}
}

func readPeers(body io.Reader) ([]string, error) {
	dec := json.NewDecoder(body)
	dec.DisallowUnknownFields()
	var request control.Request
	if err := dec.Decode(&request); err != nil {
		return nil, fmt.Errorf(`the body must be {"peers": ["NAME", "NAME"]}: %w`, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON value")
	}
	if len(request.Peers) == 0 {
		return nil, errors.New("it names no peers")
	}
	return request.Peers, nil
}

var statusCodes = []struct {
	err    error
	status int
	code   string
}{
	{control.ErrNoPeer, http.StatusNotFound, control.CodeNoPeer},
	{control.ErrAmbiguous, http.StatusConflict, control.CodeAmbiguous},
	{control.ErrForbidden, http.StatusForbidden, control.CodeForbidden},
	{control.ErrStopped, http.StatusServiceUnavailable, control.CodeStopped},
	{control.ErrNoInterface, http.StatusServiceUnavailable, control.CodeNoInterface},
}

func writeError(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		err = control.ErrStopped // or the client has left, and nobody reads this
	}
	for _, c := range statusCodes {
		if errors.Is(err, c.err) {
			writeJSON(w, c.status, &control.Error{Text: err.Error(), Code: c.code})
			return
		}
	}
	writeJSON(w, http.StatusInternalServerError, &control.Error{Text: err.Error(), Code: control.CodeFailed})
}

func writeBadRequest(w http.ResponseWriter, err error) {
	writeJSON(w, http.StatusBadRequest, &control.Error{Text: "request: " + err.Error(), Code: control.CodeBadRequest})
}

// writeJSON has nobody to tell that the client has left.
func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = control.NewEncoder(w).Encode(body)
}
