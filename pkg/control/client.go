// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Client asks the daemon that listens on one socket. Its methods may be called
// by several goroutines at once; each call is a connection of its own, and
// there is nothing to close.
//
// A failed call returns an error that wraps [ErrNotRunning] when there is no
// daemon, [ErrForbidden] for a user who may not ask, [ErrStopped] when the
// daemon breaks off, and ctx.Err() when ctx is done. A daemon that refuses the
// request says why in an [*Error].
type Client struct {
	path string
	http http.Client
}

// NewClient returns a client for the socket at path. It connects when it is
// asked for something, anew each time: the daemon need not run yet.
func NewClient(path string) *Client {
	c := &Client{path: path}
	c.http.Transport = &http.Transport{DisableKeepAlives: true, DialContext: c.dial}
	return c
}

// Status returns the interface, and the peers that the filter lets through in
// the order of their public keys. It changes nothing: no peer wakes because
// somebody looks. Errors: also [ErrNoPeer] and [ErrAmbiguous] for the filter's
// names.
func (c *Client) Status(ctx context.Context, filter Filter) (Status, error) {
	var status Status
	err := c.call(ctx, http.MethodGet, "status"+filter.query(), nil, &status)
	return status, err
}

// CopyStatus is [Client.Status], but writes the daemon's own JSON to w, one
// object and a newline. That takes a third of the time that decoding it and
// encoding it again would.
func (c *Client) CopyStatus(ctx context.Context, w io.Writer, filter Filter) error {
	body, err := c.do(ctx, http.MethodGet, "status"+filter.query(), nil)
	if err != nil {
		return err
	}
	defer body.Close()
	if _, err := io.Copy(w, body); err != nil {
		return c.explain(ctx, err)
	}
	return nil
}

// Subscribe returns what changes from now on, until ctx is done. Who asks for
// the status after Subscribe has returned misses nothing in between.
func (c *Client) Subscribe(ctx context.Context) (*Subscription, error) {
	body, err := c.do(ctx, http.MethodGet, "events", nil)
	if err != nil {
		return nil, err
	}
	return &Subscription{
		body: body, next: json.NewDecoder(body),
		explain: func(err error) error { return c.explain(ctx, err) },
	}, nil
}

// Subscription is a stream of events, for one goroutine. One that reads slowly
// delays nobody: events of one peer are put together once very many wait, so
// that it misses states in between but never the last.
type Subscription struct {
	body    io.Closer
	next    *json.Decoder
	explain func(error) error
}

// Next waits for the next event. Errors are those of the [Client]: [ErrStopped]
// when the daemon ends, ctx.Err() of Subscribe's ctx. After one there are no
// more events.
func (s *Subscription) Next() (Event, error) {
	var e Event
	if err := s.next.Decode(&e); err != nil {
		return Event{}, s.explain(err)
	}
	return e, nil
}

// Close ends the subscription. It always returns nil.
func (s *Subscription) Close() error {
	_ = s.body.Close()
	return nil
}

// Wake connects peers, and returns when they are connected or could not be,
// which is after the daemon's --open-timeout at the latest once it is their
// turn. One that is connected stays so.
//
// A peer is named by its public key, a unique prefix of one (at least 4
// characters), its configured name, or an address inside its allowed IPs.
// Unless every name means one peer, nothing is done to any, and the error wraps
// [ErrNoPeer] or [ErrAmbiguous]. Otherwise there is one result for each name,
// in their order: look at their Error, too.
func (c *Client) Wake(ctx context.Context, peers []string) ([]Result, error) {
	return c.post(ctx, "wake", peers)
}

// Sleep parks peers now, whatever their last activity. Names, results and
// errors are as for [Client.Wake].
func (c *Client) Sleep(ctx context.Context, peers []string) ([]Result, error) {
	return c.post(ctx, "sleep", peers)
}

// Exclude makes peers permanent: they are connected and never sleep, until
// [Client.Include] or the end of the daemon. It does not wait for the
// connection. Names, results and errors are as for [Client.Wake].
func (c *Client) Exclude(ctx context.Context, peers []string) ([]Result, error) {
	return c.post(ctx, "exclude", peers)
}

// Include makes permanent peers lazy again. Names, results and errors are as
// for [Client.Wake].
func (c *Client) Include(ctx context.Context, peers []string) ([]Result, error) {
	return c.post(ctx, "include", peers)
}

// Reload has the daemon read its configuration again and apply it whole. An
// [*Error] says what is wrong with it; then all stays as it was.
func (c *Client) Reload(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "reload", nil, new(struct{}))
}

func (c *Client) post(ctx context.Context, verb string, peers []string) ([]Result, error) {
	body, err := json.Marshal(Request{peers})
	if err != nil {
		return nil, err
	}
	var results []Result
	err = c.call(ctx, http.MethodPost, verb, body, &results)
	return results, err
}

// call decodes the one JSON value of an answer.
func (c *Client) call(ctx context.Context, method, verb string, request []byte, answer any) error {
	body, err := c.do(ctx, method, verb, request)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(answer); err != nil {
		return c.explain(ctx, err)
	}
	return nil
}

// do returns the body of a good answer, which the caller closes.
func (c *Client) do(ctx context.Context, method, verb string, request []byte) (io.ReadCloser, error) {
	// The host is never looked up: dial knows where to go.
	req, err := http.NewRequestWithContext(ctx, method, "http://lazybpf/v1/"+verb, bytes.NewReader(request))
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	var failure Error
	if json.NewDecoder(resp.Body).Decode(&failure) != nil {
		return nil, fmt.Errorf("%s answers %s to %s: is that daemon of another version?", c.path, resp.Status, verb)
	}
	return nil, &failure
}

func (c *Client) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if err := CheckPath(c.path); err != nil {
		return nil, err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.path)
	if err != nil {
		return nil, err
	}
	return &connection{Conn: conn}, nil
}

// connection has an error of its own for a daemon that closes before it has
// answered anything: that of net/http is known to nobody else.
type connection struct {
	net.Conn
	answered bool
}

func (c *connection) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.answered = c.answered || n > 0
	if !c.answered && errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// explain says what a failed connection means to the person who wanted it.
func (c *Client) explain(ctx context.Context, err error) error {
	var request *url.Error
	if errors.As(err, &request) {
		err = request.Err // what it adds is our own made-up URL
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("%w on %s: is `%s` running?", ErrNotRunning, c.path, c.start())
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: %s: needs root, or to look only, a member of the daemon's --control-group", ErrForbidden, c.path)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, unix.ECONNRESET),
		errors.Is(err, unix.EPIPE): // it closed the connection before it was asked
		return fmt.Errorf("%w on %s: is `%s` still running?", ErrStopped, c.path, c.start())
	}
	return err
}

// start is the command whose daemon would listen on the socket.
func (c *Client) start() string {
	if iface, ok := strings.CutSuffix(filepath.Base(c.path), ".sock"); ok && c.path == Path(iface) {
		return "lazybpf run " + iface
	}
	return "lazybpf run IFACE --control " + c.path
}
