// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/lazybpf/lazybpf/internal/daemon"
	"github.com/lazybpf/lazybpf/pkg/control"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// manage has a daemon manage the peer of Here, and plays act from the peer's first sleep on. What the daemon has logged is
// told if anything fails.
func (d *demo) manage(ctx context.Context, mode lazy.WakeMode, act func(*service) error) error {
	var log bytes.Buffer
	err := d.runDaemon(ctx, daemon.Options{
		Interface:           d.network.Here.Name,
		InactivityThreshold: threshold,
		Wake:                mode,
		Control:             control.Path(d.network.Here.Name),
		BPFFS:               "/sys/fs/bpf",
		Log:                 newLog(&log),
	}, act)
	if err != nil && ctx.Err() == nil && log.Len() > 0 {
		d.section("what the daemon has logged", "")
		d.line(strings.TrimSpace(log.String()))
	}
	return err
}

func newLog(out *bytes.Buffer) *logrus.Logger {
	log := logrus.New()
	log.SetOutput(out)
	log.SetLevel(logrus.DebugLevel)
	return log
}

// runDaemon leaves things as they were before the daemon.
func (d *demo) runDaemon(ctx context.Context, options daemon.Options, act func(*service) error) error {
	s, err := start(ctx, options)
	if err != nil {
		return err
	}
	if err := errors.Join(d.play(ctx, s, act), s.stop()); err != nil {
		return err
	}
	if d.keepalives.after, err = d.awaitKeepalive(ctx, d.keepalives.before); err != nil {
		return err
	}
	d.step(note, "daemon stopped, nothing left of it, keepalive %s", interval(d.keepalives.after))
	return nil
}

// play has the peer connected at first: it has a session.
func (d *demo) play(ctx context.Context, s *service, act func(*service) error) error {
	status, err := s.Status(ctx, control.Filter{})
	if err != nil {
		return err
	}
	peer, err := s.peer(ctx)
	if err != nil {
		return err
	}
	before, err := d.keepalive()
	if err != nil {
		return err
	}
	d.step(awake, "daemon runs on %s (%s): peer %s, keepalive %s",
		status.Interface, status.Attach, peer.State, interval(before))
	if peer.State != control.StateConnected {
		return fmt.Errorf("the peer has a session, and is %s", peer.State)
	}
	if _, err := d.fallAsleep(ctx, s); err != nil {
		return err
	}
	d.step(asleep, "peer asleep, keepalive %s", interval(d.keepalives.asleep))
	return act(s)
}
