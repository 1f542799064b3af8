// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// Backend is what the daemon does for its clients. Its methods run concurrently and return soon after ctx is done.
//
// A peer is named by its public key, a unique prefix of one (at least 4 characters), its configured name, or an address
// inside its allowed IPs. If any name means no peer ([ErrNoPeer]) or several ([ErrAmbiguous]), nothing at all is done.
// Otherwise there is one result for each name, in the order asked.
type Backend interface {
	// Status changes nothing: no peer wakes because somebody looked. What it returns belongs to the caller.
	Status(ctx context.Context) (Status, error)
	// Resolve returns the public keys of peers.
	Resolve(ctx context.Context, peers []string) (keys []string, err error)
	// Events calls send for each change from now on, one call at a time, until ctx is done or send fails. A send lasts as
	// long as its client is slow: it must hold up nobody else.
	Events(ctx context.Context, send func(Event) error) error
	// Wake returns when the peers are connected, or could not be.
	Wake(ctx context.Context, peers []string) ([]Result, error)
	// Sleep parks peers now, whatever their last activity.
	Sleep(ctx context.Context, peers []string) ([]Result, error)
	// Exclude makes peers permanent, until Include or the end of the daemon.
	Exclude(ctx context.Context, peers []string) ([]Result, error)
	// Include makes permanent peers lazy again.
	Include(ctx context.Context, peers []string) ([]Result, error)
	// Reload reads the configuration again, and applies it whole or not at all.
	Reload(ctx context.Context) error
}

const (
	maxBody       = 1 << 20 // room for 20,000 public keys
	headerTimeout = 5 * time.Second
	shutdownGrace = time.Second // for streams to end cleanly before their connections are closed
)

// Serve answers clients on l until ctx is done, which also ends the requests under way, and then closes l, which removes
// its socket. It returns nil for an end that ctx asked for.
func Serve(ctx context.Context, l net.Listener, backend Backend) error {
	srv := &http.Server{
		Handler:           newHandler(backend),
		ReadHeaderTimeout: headerTimeout,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		shutdown(srv)
	})
	err := srv.Serve(l)
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

func newHandler(b Backend) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", serveStatus(b))
	mux.HandleFunc("GET /v1/events", serveEvents(b))
	mux.HandleFunc("POST /v1/wake", servePeers(b.Wake))
	mux.HandleFunc("POST /v1/sleep", servePeers(b.Sleep))
	mux.HandleFunc("POST /v1/exclude", servePeers(b.Exclude))
	mux.HandleFunc("POST /v1/include", servePeers(b.Include))
	mux.HandleFunc("POST /v1/reload", serveReload(b))
	return mux
}

func serveStatus(b Backend) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		filter, err := parseFilter(r.URL.Query())
		if err != nil {
			writeJSON(w, http.StatusBadRequest, &wireError{"request: " + err.Error(), "bad_request"})
			return
		}
		status, err := filteredStatus(r.Context(), b, filter)
		if err != nil {
			writeError(w, r, err)
			return
		}
		writeJSON(w, http.StatusOK, withoutNil(status))
	}
}

// withoutNil makes empty lists [] in JSON, where Go would write null.
func withoutNil(s Status) Status {
	if s.Peers == nil {
		s.Peers = []Peer{}
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
		w.Header().Set("Content-Type", "application/x-ndjson")
		w.WriteHeader(http.StatusOK)
		flush := http.NewResponseController(w).Flush
		if flush() != nil {
			return
		}
		enc := NewEncoder(w)
		// The answer has begun: an error can only end it.
		_ = b.Events(r.Context(), func(e Event) error {
			if err := enc.Encode(e); err != nil {
				return err
			}
			return flush()
		})
	}
}

func servePeers(do func(context.Context, []string) ([]Result, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		peers, err := readPeers(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			writeJSON(w, http.StatusBadRequest, &wireError{"request: " + err.Error(), "bad_request"})
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
	var request peersRequest
	if err := dec.Decode(&request); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON value")
	}
	if len(request.Peers) == 0 {
		return nil, errors.New("it names no peers")
	}
	return request.Peers, nil
}

func writeError(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		err = ErrStopped // or the client has left, and nobody reads this
	}
	status, body := encodeError(err)
	writeJSON(w, status, body)
}

// writeJSON has nobody to tell that the client has left.
func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = NewEncoder(w).Encode(body)
}

// NewEncoder writes JSON as the daemon does: one value a line, and the > of a flow as it is.
func NewEncoder(w io.Writer) *json.Encoder {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc
}
