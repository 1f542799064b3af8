// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"math"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lazybpf/lazybpf/internal/wg"
)

// WireGuard tells nobody that its peers were changed, so the device is read
// again and again: every followInterval, less often if that takes so long
// that it would keep the machine busy.
const (
	followInterval = 3 * time.Second
	followShare    = 50 // a reading takes at most 1/50 of the time, and of a CPU's
	outlier        = 4  // times as long as the one before, it did not keep the machine busy
)

// linkSettle is how long after a change of network interfaces we look: who
// changes them seldom does one thing alone. wg-quick adds an interface, gives it
// its peers, and then brings it up.
const linkSettle = 100 * time.Millisecond

// watcher follows the interface: its peers, and whether it is there at all. Of
// that the kernel tells; what it has not told is noticed by the next reading.
type watcher struct {
	*Daemon
	due time.Time // when the device is read next

	took    time.Duration // that the device was read the last time
	trouble string        // why it could not be read; empty: it was

	failure string // why there was no session, the last time that one was begun
	told    bool   // of failure
}

func newWatcher(d *Daemon) watcher {
	return watcher{Daemon: d, due: time.Now().Add(followInterval), took: math.MaxInt64 / outlier} // the first may take long
}

// watch follows the interface until ctx is done.
func (d *Daemon) watch(ctx context.Context) error {
	w := newWatcher(d)
	for {
		wait := time.After(time.Until(w.due))
		select {
		case <-ctx.Done():
			return nil
		case <-d.links.changed:
			wait = time.After(linkSettle)
		case <-wait:
			wait = nil
		}
		if wait != nil {
			select {
			case <-ctx.Done():
				return nil
			case <-wait:
			}
		}
		w.look(ctx)
	}
}

// look ends the session of an interface that is gone, begins one with an
// interface that is there, or reads the device if that is due.
func (w *watcher) look(ctx context.Context) {
	s, _ := w.now()
	if s != nil && !s.isThere() {
		w.leave(s)
		s = nil
	}
	switch {
	case s == nil:
		w.adopt(ctx)
		w.due = time.Now().Add(followInterval) // however long it took: there will be more to see soon
	case !time.Now().Before(w.due):
		w.read(ctx, s)
	}
}

func (w *watcher) read(ctx context.Context, s *session) {
	begin, cpu := time.Now(), cpuTime()
	err := s.read(ctx)
	took := max(time.Since(begin), cpuTime()-cpu)
	if errors.Is(err, wg.ErrNoAnswer) {
		took = 0 // it kept nobody busy
	}
	// One that took so much longer than the one before had to wait for a wireguard-go that hung.
	w.due = time.Now().Add(max(followInterval, followShare*min(took, outlier*w.took)))
	w.took = took
	before := w.trouble
	w.trouble = ""
	switch {
	case ctx.Err() != nil:
	case err == nil:
		if before != "" {
			w.log.Info("the interface is followed again")
		}
	case errors.Is(err, wg.ErrNoDevice):
		w.leave(s)
	default:
		err = explain(w.options.Interface, err)
		if w.trouble = err.Error(); w.trouble != before {
			w.log.WithError(err).Warn("cannot follow the interface, trying again")
		}
	}
}

// cpuTime is how long all threads of this process have run: a reading has the
// garbage collector run beside it.
func cpuTime() time.Duration {
	var usage unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &usage) // fails for other arguments only
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// leave ends the session of an interface that is gone.
func (w *watcher) leave(s *session) {
	w.log.Warn("interface is gone: waiting until it is there again")
	w.applying.Lock()
	defer w.applying.Unlock()
	w.retire(s)
	s.abandon()
}

// adopt begins a session with an interface that is there again. What stands in
// its way is logged once, when it does so for the second time: the control socket of
// a wireguard-go comes after its interface.
func (w *watcher) adopt(ctx context.Context) {
	w.applying.Lock()
	defer w.applying.Unlock()
	s, err := w.begin(ctx, nil)
	switch {
	case err == nil:
		w.failure = ""
		w.log.WithFields(s.fields()).Info("interface is there again")
	case ctx.Err() != nil, errors.Is(err, wg.ErrNoDevice):
	default:
		err = explain(w.options.Interface, err)
		again := err.Error() == w.failure
		if again && !w.told {
			w.log.WithError(err).Warn("cannot manage the interface, trying again")
		}
		w.failure, w.told = err.Error(), again
	}
}
