// SPDX-License-Identifier: Apache-2.0

// Package daemon is `lazybpf run`: it puts a device's peers, a detector, a
// state machine and the control socket together, and takes them apart again so
// that nothing is left. What lives as long as the interface is a session; what
// goes on when that is gone, and waits for another of its name, is the Daemon.
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
	"golang.org/x/sys/unix"

	"github.com/lazybpf/lazybpf/internal/config"
	"github.com/lazybpf/lazybpf/internal/metrics"
	"github.com/lazybpf/lazybpf/internal/server"
	"github.com/lazybpf/lazybpf/internal/wg"
	"github.com/lazybpf/lazybpf/pkg/detect"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// Options are those of `lazybpf run`. Interface, Control and Log have no default.
type Options struct {
	Interface           string
	InactivityThreshold time.Duration // 0: lazy.DefaultThreshold
	Wake                lazy.WakeMode
	Exclude             []string      // PEERs; see control.Client.Wake
	OpenTimeout         time.Duration // 0: lazy.DefaultOpenTimeout
	MaxOpens            int           // 0: lazy.DefaultMaxOpens
	WakeRate            float64       // a second; 0: any number
	EvictAfter          time.Duration // at least lazy.MinEvictAfter; 0: never
	Policy              config.Policy
	WGQuick             config.WGQuick // endpoints by host name, of peers that Policy gives none
	Control             string         // path of the control socket
	ControlGroup        server.Group   // who may look, beside root
	BPFFS               string         // mounted bpffs to pin maps in; empty: none
	MetricsListen       string         // host:port for Prometheus; empty: none
	MetricsPeers        bool           // metrics of each peer, however many there are
	Version             string         // for metrics
	Log                 *logrus.Logger
	// Read makes the options anew, for Reload; nil: they stay.
	Read func() (Options, error)

	answer time.Duration // that WireGuard has to answer; 0: wg.AnswerTime
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

// Daemon manages the peers of one interface, each time that it is there.
type Daemon struct {
	options         Options
	log             *logrus.Entry
	metrics         *metrics.Metrics
	links           *links
	listener        net.Listener
	metricsListener net.Listener // nil: nobody asks
	changes         *feed        // for the log
	tally           tally        // of changes

	policy   atomic.Pointer[policy]
	applying sync.Mutex // held while a session begins, ends, or follows device or policy; guards the rest
	// Peers that never sleep: those that the policy names, but for what somebody
	// has said by hand.
	named  map[string]lazy.Key
	byHand map[lazy.Key]bool

	mu      sync.Mutex // guards what follows
	session *session   // nil: the interface is gone
	since   time.Time  // when it came or went
	past    past
	feeds   map[*feed]bool
}

// New starts a daemon in the network namespace of the process: when it returns,
// the interface's peers are managed, and commands wait on the socket for Run. An
// error says in one line what is wrong and what to do, or is that of ctx; then
// nothing is left.
func New(ctx context.Context, options Options) (*Daemon, error) {
	d := &Daemon{
		options: options,
		log:     options.Log.WithField("interface", options.Interface),
		byHand:  make(map[lazy.Key]bool),
		feeds:   make(map[*feed]bool),
	}
	d.policy.Store(newPolicy(options))
	d.metrics = metrics.New(options.Interface, options.Version, d.snapshot)
	if err := d.start(ctx); err != nil {
		return nil, errors.Join(explain(options.Interface, err), d.stop())
	}
	return d, nil
}

func (d *Daemon) start(ctx context.Context) error {
	var err error
	if d.links, err = openLinks(); err != nil {
		return err
	}
	if d.changes, err = d.subscribe(); err != nil {
		return err
	}
	s, err := d.begin(ctx, d.listen)
	if err != nil {
		return err
	}
	d.log.WithFields(s.fields()).Info("started")
	if d.options.WGQuick.SaveConfig {
		d.log.Warn(savesConfig)
	}
	return nil
}

// savesConfig is about an interface whose wg-quick saves what it finds.
const savesConfig = "SaveConfig is on: stop lazybpf before wg-quick down or save, or sleeping peers are saved without keepalive, and evicted ones not at all"

func (d *Daemon) listen() error {
	var err error
	if d.listener, err = server.Listen(d.options.Control, d.options.ControlGroup); err != nil {
		return err
	}
	return d.listenMetrics()
}

// Run serves until ctx is done, whether the interface is there or not. Then
// every peer has its keepalive back and nothing is left of the daemon.
func (d *Daemon) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	control := &server.Server{Backend: backend{d}, Readers: d.options.ControlGroup, Log: d.log}
	group.Go(func() error { return control.Serve(ctx, d.listener) })
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
	if d.listener != nil {
		_ = d.listener.Close() // Serve may have done so
	}
	if d.metricsListener != nil {
		_ = d.metricsListener.Close()
	}
	if d.links != nil {
		d.links.close()
	}
	s, _ := d.now()
	if s == nil {
		return nil
	}
	d.retire(s)
	return s.end()
}

// now is the session of the moment, nil if the interface is gone, and since when
// it is so.
func (d *Daemon) now() (*session, time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.session, d.since
}

// retire makes a session that is about to end a thing of the past.
func (d *Daemon) retire(s *session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.past.addSession(s)
	d.session, d.since = nil, time.Now()
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
		return fmt.Errorf("%w in this network namespace: bring it up first, as with wg-quick up %s", err, iface)
	case errors.Is(err, wg.ErrNotWireGuard):
		return fmt.Errorf("%w: name an interface that wg show lists", err)
	case errors.Is(err, wg.ErrNoAnswer):
		return fmt.Errorf("%w: is wireguard-go stopped, or does it hang? Let it go on, or start it again", err)
	case errors.Is(err, detect.ErrLinkLayer):
		return explain(iface, fmt.Errorf("%s: %w", iface, wg.ErrNotWireGuard))
	case errors.Is(err, detect.ErrBusy):
		return fmt.Errorf("%w: another lazybpf manages %s: stop it first", err, iface)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w: run as root", err)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EROFS):
		return fmt.Errorf("%w: make room there, or give another path with --control", err)
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return fmt.Errorf("%w: raise the limit, as by ulimit -n or LimitNOFILE=", err)
	}
	return err
}
