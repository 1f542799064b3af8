// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/lazybpf/lazybpf/internal/endpoint"
	"github.com/lazybpf/lazybpf/internal/wg"
	"github.com/lazybpf/lazybpf/pkg/detect"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// session is what a daemon has while its interface is there. wg-quick down and
// up make another interface of the same name, and that is another session: nothing
// of the peers is carried over.
type session struct {
	d         *Daemon
	device    *wg.Device
	finder    finder
	connector *wg.Connector
	journal   wg.Journal // empty until it has been read
	evicted   *wg.EvictedFile
	detector  *detect.Detector
	manager   *lazy.Manager
	managing  bool // the peers of the beginning are managed

	relocation *relocation

	mu    sync.Mutex // guards known, which is replaced, never changed
	known roster     // the device as it was read last
}

// begin begins a session with the interface as it is now, and calls ready once
// nobody else can manage it and nothing has been changed yet. On error nothing is
// left. The caller holds d.applying, or is the only one who has the daemon.
func (d *Daemon) begin(ctx context.Context, ready func() error) (*session, error) {
	s := &session{d: d, relocation: newRelocation()}
	peers, err := s.open(ctx)
	if err == nil && ready != nil {
		err = ready()
	}
	if err == nil {
		err = s.manage(ctx, peers)
	}
	if err != nil {
		s.abandon()
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.session, d.since = s, time.Now()
	return s, nil
}

// open takes hold of the interface, and returns its peers.
func (s *session) open(ctx context.Context) (peers []wg.Peer, err error) {
	policy := s.d.policy.Load()
	iface := policy.options.Interface
	if s.device, peers, err = openDevice(ctx, iface, cmp.Or(s.d.options.answer, wg.AnswerTime)); err != nil {
		return nil, err
	}
	s.detector, err = detect.New(detect.Options{
		Interface: iface, Peers: len(peers), Rules: policy.options.Policy.Rules,
		// What is held waits as long as its peer may be opened.
		Hold: detect.Hold{Timeout: max(policy.options.OpenTimeout, lazy.DefaultOpenTimeout)},
	})
	if err != nil {
		return nil, err
	}
	// The detector has found it by its name, too.
	if !s.isThere() {
		return nil, fmt.Errorf("%s: %w", iface, wg.ErrNoDevice)
	}
	// From here on nobody else manages the interface.
	s.finder = finder{endpoint.NewFinder(), s.d.policy.Load, s.peersNow}
	s.connector = wg.NewConnector(s.device, s.finder)
	options := managing(policy.options)
	options.Detector, options.Connector = s.detector, evicting{s.connector, s.d.log}
	if s.manager, err = lazy.New(options); err != nil {
		return nil, err
	}
	return peers, s.d.feedAll(s.manager)
}

// openDevice opens a device and reads its peers. That takes long where there are
// many, and changes nothing: once ctx is done nobody waits for it.
func openDevice(ctx context.Context, name string, answer time.Duration) (*wg.Device, []wg.Peer, error) {
	type result struct {
		device *wg.Device
		peers  []wg.Peer
		err    error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		if r.device, r.err = wg.OpenWithin(name, answer); r.err == nil {
			r.peers, r.err = r.device.Peers()
		}
		done <- r
	}()
	select {
	case r := <-done:
		return r.device, r.peers, r.err
	case <-ctx.Done():
		go func() {
			if r := <-done; r.device != nil {
				_ = r.device.Close()
			}
		}()
		return nil, nil, ctx.Err()
	}
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

// manage makes the peers managed, and those that a daemon which died has left
// in its files.
func (s *session) manage(ctx context.Context, peers []wg.Peer) error {
	options := s.d.options
	journal := JournalOf(options.Control)
	left, err := journal.Load()
	if err != nil {
		return err
	}
	if name := left.Neighbour(s.device); name != "" {
		return ofNeighbour(name, options.Control)
	}
	if peers, err = s.putBack(peers); err != nil {
		return err
	}
	if err := s.excludeAtStart(peers); err != nil {
		return err
	}
	s.journal = journal // it is this session's now, and goes with it
	if err := s.follow(ctx, time.Now(), peers, left); err != nil {
		return err
	}
	s.managing = true
	if options.BPFFS != "" {
		if err := s.detector.Pin(PinDir(options.BPFFS, options.Interface)); err != nil {
			s.d.log.WithError(err).Warn("maps are not pinned, all else works")
		}
	}
	return nil
}

// putBack puts the peers back that a daemon has evicted and then died, asleep:
// the journal has their keepalives. It returns what the device has then.
func (s *session) putBack(peers []wg.Peer) ([]wg.Peer, error) {
	s.evicted = wg.NewEvictedFile(EvictedOf(s.d.options.Control))
	if err := s.evicted.Load(s.device); err != nil {
		return nil, err
	}
	s.connector.EvictTo(s.evicted)
	if n, err := s.evicted.PutBack(s.device, false); n == 0 || err != nil {
		return peers, err
	}
	return s.device.Peers()
}

// fields are for the log.
func (s *session) fields() logrus.Fields {
	return logrus.Fields{"peers": len(s.peersNow()), "attach": s.detector.Attached()}
}

// peersNow is the device as it was read last; nobody changes it.
func (s *session) peersNow() roster {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known
}

// isThere says whether the interface is the one that the session began with. A
// name that cannot be looked up says nothing.
func (s *session) isThere() bool {
	index, err := s.d.links.index(s.d.options.Interface)
	return err != nil || index == s.device.Index()
}

// abandon ends a session of which nobody hears any more.
func (s *session) abandon() {
	if err := errors.Join(s.disown(), s.end()); err != nil {
		s.d.log.WithError(err).Warn("not all could be given back")
	}
}

// disown has the manager forget its peers, so that who follows its changes
// sees them go.
func (s *session) disown() error {
	if s.manager == nil {
		return nil
	}
	peers, err := s.manager.Peers()
	errs := []error{err}
	for _, p := range peers {
		errs = append(errs, s.manager.RemovePeer(p.Key))
	}
	return errors.Join(errs...)
}

// end gives back all that the session has taken hold of, as far as that came: the
// peers of an interface that is gone went with it.
func (s *session) end() error {
	var errs []error
	s.relocation.end()
	if s.manager != nil {
		errs = append(errs, s.manager.Close())
	}
	if s.connector != nil {
		err := s.connector.GiveBack()
		switch iface := s.d.options.Interface; {
		case errors.Is(err, wg.ErrNoDevice):
			err = nil
		case errors.Is(err, wg.ErrNoAnswer):
			err = fmt.Errorf("%s: %w; keepalives and evicted peers to give back: %d; lazybpf restore %s does so once it answers",
				iface, wg.ErrNoAnswer, s.connector.Owed(), iface)
		}
		if s.journal != "" && err == nil {
			err = errors.Join(s.journal.Remove(), s.evicted.Remove())
		}
		errs = append(errs, err)
	}
	if s.detector != nil {
		errs = append(errs, s.detector.Close())
		if dir := PinDir(s.d.options.BPFFS, s.d.options.Interface); dir != "" {
			_ = os.Remove(dir) // the detector leaves a folder that a dead daemon has made
		}
	}
	if s.device != nil {
		errs = append(errs, s.device.Close())
	}
	return errors.Join(errs...)
}
