// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"reflect"
	"syscall"

	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// errFixed: an option that the daemon was started with cannot be another now.
var errFixed = errors.New("cannot change while lazybpf runs: restart it")

// Reload reads the options again and applies them whole, or not at all. Peers
// whose options are the same are not touched.
func (d *Daemon) Reload() error {
	if d.options.Read == nil {
		return errors.New("there is nothing to read options from")
	}
	options, err := d.options.Read()
	if err != nil {
		return err
	}
	switch {
	case options.Control != d.options.Control:
		return fmt.Errorf("control: %w", errFixed)
	case options.ControlGroup != d.options.ControlGroup:
		return fmt.Errorf("control-group: %w", errFixed)
	case options.BPFFS != d.options.BPFFS:
		return fmt.Errorf("bpffs: %w", errFixed)
	case options.MetricsListen != d.options.MetricsListen:
		return fmt.Errorf("metrics-listen: %w", errFixed)
	}
	d.applying.Lock()
	defer d.applying.Unlock()
	before := d.policy.Load()
	if err := d.apply(newPolicy(options)); err != nil {
		return errors.Join(err, d.apply(before))
	}
	log := d.log.Logger
	log.SetLevel(options.Log.GetLevel())
	log.SetFormatter(options.Log.Formatter)
	d.log.Info("configuration read again")
	return nil
}

// apply goes over to a policy. The caller holds d.applying.
func (d *Daemon) apply(p *policy) error {
	if s, _ := d.now(); s != nil {
		return s.apply(p)
	}
	d.policy.Store(p) // for the next session
	d.named, _ = p.excludedNames(nil, nil)
	return nil
}

// apply brings detector, manager and connector from the policy of now to
// another.
func (s *session) apply(p *policy) error {
	names, err := p.excludedNames(s.known, s.d.named)
	if err != nil {
		return err
	}
	if err := s.manager.SetOptions(managing(p.options)); err != nil {
		return err
	}
	if err := s.detector.SetInterfaceRules(p.options.Policy.Rules); err != nil {
		return err
	}
	before := s.d.policy.Swap(p)
	var unsettled []lazy.Key
	for _, peer := range s.known {
		if now := p.managed(peer); !reflect.DeepEqual(now, before.managed(peer)) {
			if err := s.manager.UpdatePeer(now); err != nil {
				return err
			}
		}
		keepalive := p.peers[peer.Key].Keepalive
		if !reflect.DeepEqual(keepalive, before.peers[peer.Key].Keepalive) {
			s.connector.SetKeepalive(peer.Key, keepalive)
			unsettled = append(unsettled, peer.Key)
		}
	}
	if len(unsettled) > 0 {
		if err := s.settle(unsettled...); err != nil {
			return err
		}
	}
	s.d.named = names
	return errors.Join(s.exclude(), s.recall())
}

// reloadOnSignal reloads at each SIGHUP until ctx is done.
func (d *Daemon) reloadOnSignal(ctx context.Context) error {
	if d.options.Read == nil {
		return nil
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-hangup:
			if err := d.Reload(); err != nil {
				d.log.WithError(err).Error("configuration not applied: it stays as it was")
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// Reload is that of the daemon, for commands.
func (b backend) Reload(context.Context) error { return b.Daemon.Reload() }
