// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"syscall"

	"github.com/lazybpf/lazybpf/internal/wg"
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

// apply brings detector, manager and connector from the policy of now to
// another. The caller holds d.applying.
func (d *Daemon) apply(p *policy) error {
	configured, err := p.excluded(d.known)
	if err != nil {
		return err
	}
	if err := d.manager.SetOptions(managing(p.options)); err != nil {
		return err
	}
	if err := d.detector.SetInterfaceRules(p.options.Policy.Rules); err != nil {
		return err
	}
	before := d.policy.Swap(p)
	for _, peer := range d.known {
		if now := p.managed(peer); !reflect.DeepEqual(now, before.managed(peer)) {
			if err := d.manager.UpdatePeer(now); err != nil {
				return err
			}
		}
		keepalive := p.peers[peer.Key].Keepalive
		if !reflect.DeepEqual(keepalive, before.peers[peer.Key].Keepalive) {
			if err := d.connector.SetKeepalive(peer.Key, keepalive); err != nil {
				return err
			}
		}
	}
	return d.exclude(configured)
}

// excludeAtStart makes the exclude list, before the manager has any peers.
func (d *Daemon) excludeAtStart(peers []wg.Peer) error {
	known := make(map[lazy.Key]wg.Peer, len(peers))
	for _, p := range peers {
		known[p.Key] = p
	}
	configured, err := d.policy.Load().excluded(known)
	if err != nil {
		return err
	}
	return d.exclude(configured)
}

// exclude makes these peers permanent, but for what was said by hand.
func (d *Daemon) exclude(configured map[lazy.Key]bool) error {
	d.configured = configured
	list := maps.Clone(configured)
	for key, excluded := range d.byHand {
		if excluded {
			list[key] = true
		} else {
			delete(list, key)
		}
	}
	_, err := d.manager.SetExcluded(slices.Collect(maps.Keys(list)))
	return err
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
