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

// Client asks the daemon that listens on one socket. All its methods return an error that wraps [ErrNotRunning] when
// there is none, fs.ErrPermission for a user who may not ask, [ErrStopped] when the daemon breaks off, and ctx.Err() when
// ctx is done.
type Client struct {
	// Filter chooses the peers of Status and CopyStatus.
	Filter Filter

	path string
	http http.Client
}

// NewClient returns a client for the socket at path. It connects anew for each request.
func NewClient(path string) *Client {
	c := &Client{path: path}
	c.http.Transport = &http.Transport{DisableKeepAlives: true, DialContext: c.dial}
	return c
}

// Status returns the interface and its peers, and changes nothing.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var status Status
	err := c.call(ctx, http.MethodGet, "status"+c.Filter.query(), nil, &status)
	return status, err
}

// CopyStatus writes the daemon's own JSON to w, in a third of the time that [Client.Status] and encoding it again take.
func (c *Client) CopyStatus(ctx context.Context, w io.Writer) error {
	body, err := c.do(ctx, http.MethodGet, "status"+c.Filter.query(), nil)
	if err != nil {
		return err
	}
	defer body.Close()
	if _, err := io.Copy(w, body); err != nil {
		return c.explain(ctx, err)
	}
	return nil
}

// Events calls send for each change until ctx is done, send fails or the daemon breaks off. It never returns nil.
func (c *Client) Events(ctx context.Context, send func(Event) error) error {
	body, err := c.do(ctx, http.MethodGet, "events", nil)
	if err != nil {
		return err
	}
	defer body.Close()
	for dec := json.NewDecoder(body); ; {
		var e Event
		if err := dec.Decode(&e); err != nil {
			return c.explain(ctx, err)
		}
		if err := send(e); err != nil {
			return err
		}
	}
}

// Wake connects peers. It and the three below do nothing, and return an error that wraps [ErrNoPeer] or [ErrAmbiguous],
// unless every name means exactly one peer.
func (c *Client) Wake(ctx context.Context, peers []string) ([]Result, error) {
	return c.post(ctx, "wake", peers)
}

// Sleep parks peers.
func (c *Client) Sleep(ctx context.Context, peers []string) ([]Result, error) {
	return c.post(ctx, "sleep", peers)
}

// Exclude makes peers permanent.
func (c *Client) Exclude(ctx context.Context, peers []string) ([]Result, error) {
	return c.post(ctx, "exclude", peers)
}

// Include makes peers lazy again.
func (c *Client) Include(ctx context.Context, peers []string) ([]Result, error) {
	return c.post(ctx, "include", peers)
}

// Reload has the daemon read its configuration again.
func (c *Client) Reload(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "reload", nil, new(struct{}))
}

func (c *Client) post(ctx context.Context, verb string, peers []string) ([]Result, error) {
	body, err := json.Marshal(peersRequest{peers})
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
	var failure wireError
	if json.NewDecoder(resp.Body).Decode(&failure) != nil {
		return nil, fmt.Errorf("%s answers %s to %s: is that daemon of another version?", c.path, resp.Status, verb)
	}
	return nil, &failure
}

func (c *Client) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if err := checkPath(c.path); err != nil {
		return nil, err
	}
	var d net.Dialer
	return d.DialContext(ctx, "unix", c.path)
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
		return fmt.Errorf("%w: needs root", err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, unix.ECONNRESET):
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
