// SPDX-License-Identifier: Apache-2.0

// Package demo is `lazybpf demo`: on a network that it builds and throws away, a daemon puts a peer to sleep, and real
// packets wake it. What the demo tells it has measured, and it fails where the daemon does not do what it should.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

const (
	threshold = lazy.MinThreshold // how long the peer is silent before the daemon puts it to sleep
	keepalive = 25 * time.Second  // of the peer, before there is a daemon
	rounds    = 3                 // how often each first packet is measured with plain WireGuard

	// patience is how long to wait for what should happen at once. It ends before WireGuard repeats a handshake, after 5 s.
	patience = 4 * time.Second
)

// Run shows the demo, which takes less than half a minute. It must be called inside a lab. The error is ctx.Err() if ctx is
// done before the end; nothing is left in any case.
func Run(ctx context.Context, out io.Writer, colour bool) error {
	network, err := lab.New(lab.Options{})
	if err != nil {
		return err
	}
	err = errors.Join(show(ctx, network, newReporter(out, colour)), network.Close())
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// demo is the demo as far as it has come.
type demo struct {
	*reporter
	network    *lab.Network
	probes     []*probe
	baseline   []time.Duration // first round trips with plain WireGuard
	wakes      []wake
	counts     tally // of the packets that woke the peer
	keepalives keepalives
}

// keepalives are those that the peer had on the device.
type keepalives struct{ before, asleep, awake, after time.Duration }

func show(ctx context.Context, network *lab.Network, r *reporter) error {
	echo, err := network.There.ServeEcho()
	if err != nil {
		return err
	}
	defer echo.Close()

	d := &demo{reporter: r, network: network, probes: newProbes(network, echo)}
	for _, act := range []struct {
		title, remark string
		play          func(context.Context) error
	}{
		{"the network", "two hosts made of namespaces; WireGuard: " + network.Kind(), d.draw},
		{"plain WireGuard", "without lazybpf, after a long silence: a handshake comes first", d.plain},
		{"pass", "the packet that wakes the peer goes straight to WireGuard", d.pass},
		{"hold", "the packet waits in lazybpf until the peer is connected", d.hold},
		{"result", "", d.conclude},
	} {
		d.section(act.title, act.remark)
		if err := errors.Join(act.play(ctx), r.err); err != nil {
			return fmt.Errorf("%s: %w", act.title, err)
		}
	}
	return nil
}

func (d *demo) draw(context.Context) error {
	for _, line := range picture(d.network) {
		d.line("  " + line)
	}
	return nil
}

// plain measures what the wakes are compared with.
func (d *demo) plain(ctx context.Context) error {
	for _, p := range d.probes {
		trips := make([]time.Duration, rounds)
		for i := range trips {
			var err error
			if trips[i], err = d.firstRoundTrip(ctx, p); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
		}
		p.plain = median(trips)
		d.baseline = append(d.baseline, trips...)
	}
	d.step(packet, "%d first packets: round trip %s in the median, %s to %s",
		len(d.baseline), millis(median(d.baseline)), millis(slices.Min(d.baseline)), millis(slices.Max(d.baseline)))

	if err := d.setKeepalive(keepalive); err != nil {
		return err
	}
	var err error
	d.keepalives.before, err = d.keepalive()
	return err
}

// pass tells the first wake at length.
func (d *demo) pass(ctx context.Context) error {
	return d.manage(ctx, lazy.WakePass, func(s *service) error {
		w, err := d.wake(ctx, s, d.probes[0], d.tell)
		if err != nil {
			return err
		}
		d.step(asleep, "asleep again after %s of silence, keepalive %s", seconds(w.silence), interval(d.keepalives.asleep))
		return d.list(ctx, s, d.probes[1:])
	})
}

// hold shows that packets are held indeed.
func (d *demo) hold(ctx context.Context) error {
	return d.manage(ctx, lazy.WakeHold, func(s *service) error {
		if err := d.list(ctx, s, d.probes); err != nil {
			return err
		}
		peer, err := s.peer(ctx)
		if err != nil {
			return err
		}
		d.step(note, "%d packets held, %d replayed, %d dropped", peer.Held, peer.Replayed, peer.Dropped)
		if peer.Held == 0 || peer.Replayed != peer.Held {
			return errors.New("packets were not held, or not replayed")
		}
		return nil
	})
}

// tell is a wake at length.
func (d *demo) tell(w wake) {
	d.step(packet, "first packet: %s", w.flow)
	d.step(awake, "woke after %s, keepalive %s", millis(w.took), interval(d.keepalives.awake))
	d.step(awake, "answered: round trip %s (plain WireGuard %s)", millis(w.roundTrip), millis(w.plain))
}

// list wakes the peer in one way after another, with a line for each.
func (d *demo) list(ctx context.Context, s *service, probes []*probe) error {
	d.heading()
	for _, p := range probes {
		if _, err := d.wake(ctx, s, p, d.row); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) conclude(context.Context) error {
	var took, trips, silences []time.Duration
	for _, w := range d.wakes {
		took, trips, silences = append(took, w.took), append(trips, w.roundTrip), append(silences, w.silence)
	}
	k := d.keepalives
	d.figure("woke", "after %s in the median, %s at most", millis(median(took)), millis(slices.Max(took)))
	d.figure("round trip", "%s in the median, plain WireGuard %s", millis(median(trips)), millis(median(d.baseline)))
	d.figure("asleep", "after %s to %s of silence", seconds(slices.Min(silences)), seconds(slices.Max(silences)))
	d.figure("keepalive", "%s before, %s asleep, %s awake, %s afterwards",
		interval(k.before), interval(k.asleep), interval(k.awake), interval(k.after))
	if !d.counts.good() {
		return errors.New(d.counts.String())
	}
	d.line("")
	d.line(d.paint(green, d.counts.String()))
	d.line("Now with your own peers: lazybpf run wg0")
	return nil
}
