// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/lazybpf/lazybpf/pkg/detect"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// feed is the changes of peers in one session after another, for one reader.
type feed struct {
	// The session to read next. A reader so slow that there is one more misses
	// the one between: its peers have come and gone.
	next chan *lazy.Subscription
}

// subscribe returns a feed of the changes from now on.
func (d *Daemon) subscribe() (*feed, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := &feed{next: make(chan *lazy.Subscription, 1)}
	d.feeds[f] = true
	if d.session == nil {
		return f, nil
	}
	return f, f.add(d.session.manager)
}

func (d *Daemon) unsubscribe(f *feed) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.feeds, f)
	f.skip()
}

// feedAll has all feeds go on with a manager, once they are through with those
// before.
func (d *Daemon) feedAll(m *lazy.Manager) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for f := range d.feeds {
		errs = append(errs, f.add(m))
	}
	return errors.Join(errs...)
}

// add puts a manager's changes next. The caller holds Daemon.mu.
func (f *feed) add(m *lazy.Manager) error {
	s, err := m.Subscribe()
	if err != nil {
		return err
	}
	f.skip()
	f.next <- s
	return nil
}

func (f *feed) skip() {
	select {
	case s := <-f.next:
		s.Close()
	default:
	}
}

// each calls do for each change until ctx is done or do fails.
func (f *feed) each(ctx context.Context, do func(lazy.Change) error) error {
	for {
		select {
		case s := <-f.next:
			if err := eachOf(ctx, s, do); !errors.Is(err, lazy.ErrClosed) {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func eachOf(ctx context.Context, s *lazy.Subscription, do func(lazy.Change) error) error {
	defer s.Close()
	for {
		change, err := s.Next(ctx)
		if err == nil {
			err = do(change)
		}
		if err != nil {
			return err
		}
	}
}

// logChanges writes what becomes of peers to the log, and counts it.
func (d *Daemon) logChanges(ctx context.Context) error {
	_ = d.changes.each(ctx, func(c lazy.Change) error { // which ends with ctx
		d.tally.add(c)
		d.logChange(c)
		return nil
	})
	return nil
}

func (d *Daemon) logChange(c lazy.Change) {
	log := d.log.WithField("peer", c.Key.String())
	if name := d.policy.Load().peers[c.Key].Name; name != "" {
		log = log.WithField("name", name)
	}
	switch {
	case c.Err != nil:
		d.metrics.Failed()
		log.WithError(c.Err).Warn("peer could not be opened")
	case c.From == 0:
		log.WithField("state", c.To).Debug("peer added")
	case c.To == 0:
		log.Debug("peer removed")
	case c.To == lazy.Connecting:
		log.WithFields(fieldsOf(c.Wake)).Debug("peer is waking")
	case c.To == lazy.Connected:
		d.metrics.Woke(c.Wake.Reason.String(), c.Wake.Took)
		log.WithFields(fieldsOf(c.Wake)).WithField("took", c.Wake.Took.Round(time.Microsecond)).Info("peer woke")
	case c.To == lazy.Idle:
		log.Info("peer sleeps")
	}
}

// fieldsOf are for the log. What woke a peer by hand or by its group was no packet.
func fieldsOf(w lazy.Wake) logrus.Fields {
	fields := logrus.Fields{"reason": w.Reason}
	if w.Event.Flow != (detect.Flow{}) {
		fields["flow"] = w.Event.Flow
	}
	return fields
}
