// SPDX-License-Identifier: Apache-2.0

// Package daemon is `lazybpf run`: it puts a device's peers, a detector, a
// state machine and the control socket together, and takes them apart again so
// that nothing is left.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/lazybpf/lazybpf/internal/config"
	"github.com/lazybpf/lazybpf/internal/control"
	"github.com/lazybpf/lazybpf/internal/endpoint"
	"github.com/lazybpf/lazybpf/internal/metrics"
	"github.com/lazybpf/lazybpf/internal/wg"
	"github.com/lazybpf/lazybpf/pkg/detect"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// Options are those of `lazybpf run`. Interface, Control and Log have no default.
type Options struct {
	Interface           string
	InactivityThreshold time.Duration // 0: lazy.DefaultThreshold
	Wake                lazy.WakeMode
	Exclude             []string      // PEERs; see control.Backend
	OpenTimeout         time.Duration // 0: lazy.DefaultOpenTimeout
	MaxOpens            int           // 0: lazy.DefaultMaxOpens
	WakeRate            float64       // a second; 0: any number
	EvictAfter          time.Duration // at least lazy.MinEvictAfter; 0: never
	Policy              config.Policy
	Names               map[lazy.Key]string // endpoints by host name, of peers that Policy gives none
	Control             string              // path of the control socket
	BPFFS               string              // mounted bpffs to pin maps in; empty: none
	MetricsListen       string              // host:port for Prometheus; empty: none
	MetricsPeers        bool                // metrics of each peer, however many there are
	Version             string              // for metrics
	Log                 *logrus.Logger
	// Read makes the options anew, for Reload; nil: they stay.
	Read func() (Options, error)
}

// PinDir is the folder of an interface's pins.
func PinDir(bpffs, iface string) string {
	if bpffs == "" {
		return ""
	}
	return filepath.Join(bpffs, "lazybpf", iface)
}

// JournalOf is the journal that belongs to a control socket.
func JournalOf(control string) wg.Journal {
	return wg.Journal(strings.TrimSuffix(control, ".sock") + ".journal")
}

// EvictedOf is the path of the file of evicted peers that belongs to a control
// socket.
func EvictedOf(control string) string { return strings.TrimSuffix(control, ".sock") + ".evicted" }

// Daemon manages the peers of one interface.
type Daemon struct {
	options   Options
	log       *logrus.Entry
	since     time.Time
	device    *wg.Device
	connector *wg.Connector
	journal   wg.Journal // empty until it has been read
	evicted   *wg.EvictedFile
	detector  *detect.Detector
	manager   *lazy.Manager
	changes   *lazy.Subscription // for the log
	tally     tally              // of changes
	listener  net.Listener
	metrics   *metrics.Metrics
	gone      counts

	metricsListener net.Listener // nil: nobody asks

	mu    sync.Mutex           // guards known, which is replaced, never changed
	known map[lazy.Key]wg.Peer // the device as it was read last

	policy   atomic.Pointer[policy]
	applying sync.Mutex // held while manager and connector follow device or policy; guards the rest
	// Peers that never sleep: by policy, but for those that somebody has put on
	// the list, or taken off it, by hand.
	configured, byHand map[lazy.Key]bool
}

// New starts a daemon in the network namespace of the calling thread: when it
// returns, the interface's peers are managed, and commands wait on the socket
// for Run. An error says in one line what is wrong and what to do; then nothing
// is left.
func New(options Options) (*Daemon, error) {
	d := &Daemon{
		options: options,
		log:     options.Log.WithField("interface", options.Interface),
		since:   time.Now(),
		known:   make(map[lazy.Key]wg.Peer),
		byHand:  make(map[lazy.Key]bool),
	}
	d.policy.Store(newPolicy(options))
	d.metrics = metrics.New(options.Interface, options.Version, d.snapshot)
	if err := d.start(); err != nil {
		return nil, errors.Join(explain(options.Interface, err), d.stop())
	}
	return d, nil
}

func (d *Daemon) start() error {
	var err error
	if d.device, err = wg.Open(d.options.Interface); err != nil {
		return err
	}
	peers, err := d.device.Peers()
	if err != nil {
		return err
	}
	d.detector, err = detect.New(detect.Options{
		Interface: d.options.Interface, Peers: len(peers), Rules: d.options.Policy.Rules,
	})
	if err != nil {
		return err
	}
	// From here on nobody else manages the interface.
	d.connector = wg.NewConnector(d.device, finder{endpoint.NewFinder(), d.policy.Load})
	managing := managing(d.options)
	managing.Detector, managing.Connector = d.detector, evicting{d.connector, d.log}
	if d.manager, err = lazy.New(managing); err != nil {
		return err
	}
	if d.listener, err = control.Listen(d.options.Control); err != nil {
		return err
	}
	if err := d.listenMetrics(); err != nil {
		return err
	}
	if d.changes, err = d.manager.Subscribe(); err != nil {
		return err
	}
	// A daemon that died may have left these.
	journal := JournalOf(d.options.Control)
	originals, err := journal.Load()
	if err != nil {
		return err
	}
	if peers, err = d.putBack(peers); err != nil {
		return err
	}
	if err := d.excludeAtStart(peers); err != nil {
		return err
	}
	d.journal = journal // it is this daemon's now, and goes with it
	if err := d.follow(time.Now(), peers, originals); err != nil {
		return err
	}
	if d.options.BPFFS != "" {
		if err := d.detector.Pin(PinDir(d.options.BPFFS, d.options.Interface)); err != nil {
			d.log.WithError(err).Warn("maps are not pinned, all else works")
		}
	}
	d.log.WithFields(logrus.Fields{"peers": len(peers), "attach": d.detector.Attached()}).Info("started")
	return nil
}

// managing are the manager's options, without detector and connector.
func managing(o Options) lazy.Options {
	return lazy.Options{
		InactivityThreshold: o.InactivityThreshold,
		Wake:                o.Wake,
		OpenTimeout:         o.OpenTimeout,
		MaxOpens:            o.MaxOpens,
		WakeRate:            o.WakeRate,
		EvictAfter:          o.EvictAfter,
	}
}

// putBack puts the peers back that a daemon has evicted and then died, asleep:
// the journal has their keepalives. It returns what the device has then.
func (d *Daemon) putBack(peers []wg.Peer) ([]wg.Peer, error) {
	d.evicted = wg.NewEvictedFile(EvictedOf(d.options.Control))
	if err := d.evicted.Load(); err != nil {
		return nil, err
	}
	d.connector.EvictTo(d.evicted)
	if n, err := d.evicted.PutBack(d.device, false); n == 0 || err != nil {
		return peers, err
	}
	return d.device.Peers()
}

// Run serves until ctx is done, or the interface is gone. Then every peer has
// its keepalive back and nothing is left of the daemon.
func (d *Daemon) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return control.Serve(ctx, d.listener, backend{d}) })
	if d.metricsListener != nil {
		group.Go(func() error { return d.metrics.Serve(ctx, d.metricsListener) })
	}
	group.Go(func() error { return d.watch(ctx) })
	group.Go(func() error { return d.logChanges(ctx) })
	group.Go(func() error { return d.reloadOnSignal(ctx) })
	group.Go(func() error { return d.notify(ctx) })
	err := group.Wait()
	err = errors.Join(explain(d.options.Interface, err), d.stop())
	d.log.Info("stopped")
	return err
}

// stop takes apart what start has put together, as far as it came.
func (d *Daemon) stop() error {
	var errs []error
	if d.listener != nil {
		_ = d.listener.Close() // Serve may have done so
	}
	if d.metricsListener != nil {
		_ = d.metricsListener.Close()
	}
	if d.manager != nil {
		errs = append(errs, d.manager.Close())
	}
	if d.connector != nil {
		err := d.connector.GiveBack()
		if d.journal != "" && (err == nil || errors.Is(err, wg.ErrNoDevice)) {
			err = errors.Join(d.journal.Remove(), d.evicted.Remove())
		}
		errs = append(errs, err)
	}
	if d.detector != nil {
		errs = append(errs, d.detector.Close())
		if dir := PinDir(d.options.BPFFS, d.options.Interface); dir != "" {
			_ = os.Remove(dir) // the detector leaves a folder that a dead daemon has made
		}
	}
	if d.device != nil {
		errs = append(errs, d.device.Close())
	}
	return errors.Join(errs...)
}

// logChanges writes what becomes of peers to the log.
func (d *Daemon) logChanges(ctx context.Context) error {
	for {
		change, err := d.changes.Next(ctx)
		if err != nil {
			return nil
		}
		d.tally.add(change)
		log := d.log.WithField("peer", change.Key.String())
		switch {
		case change.Err != nil:
			d.metrics.Failed()
			log.WithError(change.Err).Warn("peer could not be opened")
		case change.From == 0:
			log.WithField("state", change.To).Debug("peer added")
		case change.To == 0:
			log.Debug("peer removed")
		case change.To == lazy.Connecting:
			log.WithFields(logrus.Fields{"reason": change.Wake.Reason, "flow": change.Wake.Event.Flow}).Debug("peer is waking")
		case change.To == lazy.Connected:
			d.metrics.Woke(change.Wake.Reason.String(), change.Wake.Took)
			log.WithFields(logrus.Fields{
				"reason": change.Wake.Reason,
				"flow":   change.Wake.Event.Flow,
				"took":   change.Wake.Took.Round(time.Microsecond),
			}).Info("peer woke")
		case change.To == lazy.Idle:
			log.Info("peer sleeps")
		}
	}
}

// explain says what to do about the errors that a user can cause.
func explain(iface string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, wg.ErrPermission), errors.Is(err, detect.ErrPermission):
		if cause := detect.Requirements(); cause != nil {
			return cause
		}
	case errors.Is(err, wg.ErrNoDevice):
		return fmt.Errorf("%w: bring it up first, as with wg-quick up %s", err, iface)
	case errors.Is(err, wg.ErrNotWireGuard):
		return fmt.Errorf("%w: name an interface that wg show lists", err)
	case errors.Is(err, detect.ErrLinkLayer):
		return explain(iface, fmt.Errorf("%s: %w", iface, wg.ErrNotWireGuard))
	case errors.Is(err, detect.ErrBusy):
		return fmt.Errorf("%w: another lazybpf manages %s: stop it first", err, iface)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w: run as root", err)
	}
	return err
}
