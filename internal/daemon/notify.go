// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/lazybpf/lazybpf/pkg/lazy"
)

const (
	statusInterval = 15 * time.Second // at least every so often systemd hears of us
	firstStatus    = time.Second      // by then the peers of the start are counted
)

// tally counts peers by state.
type tally [lazy.Connected + 1]atomic.Int64

func (t *tally) add(c lazy.Change) {
	t[c.From].Add(-1)
	t[c.To].Add(1)
}

func (t *tally) String() string {
	return fmt.Sprintf("%d idle, %d connecting, %d connected",
		t[lazy.Idle].Load(), t[lazy.Connecting].Load(), t[lazy.Connected].Load())
}

// notify tells systemd, if it has started the daemon, that it is ready, how
// its peers are, and that it is alive. Alive is a manager that answers: each
// watchdog message comes after a question to the goroutine that owns the peers,
// if there are any.
func (d *Daemon) notify(ctx context.Context) error {
	watchdog, err := systemd.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("environment: WATCHDOG_USEC: %w", err)
	}
	send := func(state string) {
		if _, err := systemd.SdNotify(false, state); err != nil {
			d.log.WithError(err).Warn("cannot notify systemd")
		}
	}
	keepNotifying(ctx, d.summary, watchdog, send)
	return nil
}

// summary says in a line how the peers are, once their manager has answered.
func (d *Daemon) summary() string {
	s, _ := d.now()
	if s == nil {
		return "the interface is gone"
	}
	_, _ = s.manager.Peer(lazy.Key{}) // it need not have one of this key
	return d.tally.String()
}

// keepNotifying sends summaries until ctx is done; watchdog is how long systemd
// waits for a message, or 0 if it does not.
func keepNotifying(ctx context.Context, summary func() string, watchdog time.Duration, send func(string)) {
	interval := statusInterval
	if watchdog > 0 {
		interval = min(interval, watchdog/3)
	}
	send(systemd.SdNotifyReady)
	defer send(systemd.SdNotifyStopping)
	for wait := min(firstStatus, interval); ; wait = interval {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		send(systemd.SdNotifyWatchdog + "\nSTATUS=" + summary())
	}
}
