// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lazybpf/lazybpf/internal/daemon"
	"github.com/lazybpf/lazybpf/pkg/control"
)

// service is a daemon that runs, as one sees it who has only its socket.
type service struct {
	*control.Client
	options daemon.Options
	before  []string           // what was there before it
	events  chan control.Event // changes of its only peer
	ended   <-chan struct{}    // closed when the daemon ends
	cancel  context.CancelFunc
	running *errgroup.Group
}

// start runs a daemon until ctx is done or it is stopped.
func start(ctx context.Context, options daemon.Options) (*service, error) {
	before, err := traces(options)
	if err != nil {
		return nil, err
	}
	d, err := daemon.New(ctx, options)
	if err != nil {
		return nil, err
	}
	s := &service{
		Client:  control.NewClient(options.Control),
		options: options,
		before:  before,
		events:  make(chan control.Event),
	}
	ctx, s.cancel = context.WithCancel(ctx)
	s.running, ctx = errgroup.WithContext(ctx)
	s.ended = ctx.Done()
	s.running.Go(func() error {
		defer s.cancel()
		return d.Run(ctx)
	})
	s.running.Go(func() error { return s.listen(ctx) })
	return s, nil
}

// listen receives the events until ctx is done.
func (s *service) listen(ctx context.Context) error {
	changes, err := s.Subscribe(ctx)
	if err == nil {
		defer changes.Close()
	}
	for err == nil {
		var e control.Event
		if e, err = changes.Next(); err == nil {
			select {
			case s.events <- e:
			case <-ctx.Done():
			}
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// stop ends the daemon, and returns an error if it failed or left something.
func (s *service) stop() error {
	s.cancel()
	failure := s.running.Wait()
	left, err := traces(s.options)
	left = slices.DeleteFunc(left, func(trace string) bool { return slices.Contains(s.before, trace) })
	if len(left) > 0 {
		err = fmt.Errorf("the daemon has ended and left %s", strings.Join(left, ", "))
	}
	return errors.Join(failure, err)
}

// traces are what a daemon adds to a machine: files, and a network device.
func traces(o daemon.Options) ([]string, error) {
	var found []string
	for _, path := range []string{o.Control, string(daemon.JournalOf(o.Control)), daemon.PinDir(o.BPFFS, o.Interface)} {
		if _, err := os.Lstat(path); err == nil {
			found = append(found, path)
		}
	}
	devices, err := net.Interfaces()
	for _, device := range devices {
		found = append(found, device.Name)
	}
	return found, err
}

// peer is the status of the only peer.
func (s *service) peer(ctx context.Context) (control.Peer, error) {
	status, err := s.Status(ctx, control.Filter{})
	if err != nil {
		return control.Peer{}, err
	}
	if len(status.Peers) != 1 {
		return control.Peer{}, fmt.Errorf("the daemon has %d peers, expected 1", len(status.Peers))
	}
	return status.Peers[0], nil
}

// next waits for the peer's next change, which must lead to the state and come in time.
func (s *service) next(ctx context.Context, state string, wait time.Duration) (control.Event, error) {
	select {
	case e := <-s.events:
		if e.To != state {
			return e, fmt.Errorf("the peer went from %s to %s, expected %s", e.From, e.To, state)
		}
		return e, nil
	case <-time.After(wait):
		return control.Event{}, fmt.Errorf("the peer is not %s, %s later", state, wait)
	case <-s.ended:
		return control.Event{}, errors.New("the daemon has ended")
	case <-ctx.Done():
		return control.Event{}, ctx.Err()
	}
}
