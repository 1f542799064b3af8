// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/internal/lab"
)

// firstRoundTrip measures a first packet and its answer. A handshake that got lost is repeated in time.
func (d *demo) firstRoundTrip(ctx context.Context, p *probe) (time.Duration, error) {
	if err := d.forgetSessions(ctx); err != nil {
		return 0, err
	}
	t, err := p.open()
	if err != nil {
		return 0, err
	}
	defer t.Close()
	return ask(ctx, t, 3*patience)
}

// ask does not wait for ever.
func ask(ctx context.Context, t talk, patience time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	took, err := t.ask(ctx)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("no answer within %s: the first packet is lost", patience)
	}
	return took, err
}

// quiet is how long WireGuard may take over the last packets of one session, and what it wants between two: see
// [lab.Network.ForgetSessions].
const quiet = 60 * time.Millisecond

// forgetSessions makes the hosts need a handshake, as after a long silence. A packet that is still on its way would start
// one at the wrong moment.
func (d *demo) forgetSessions(ctx context.Context) error {
	if err := sleep(ctx, quiet); err != nil {
		return err
	}
	if err := d.network.ForgetSessions(); err != nil {
		return err
	}
	return sleep(ctx, quiet)
}

func sleep(ctx context.Context, duration time.Duration) error {
	select {
	case <-time.After(duration):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// setKeepalive does what an administrator does with wg(8).
func (d *demo) setKeepalive(interval time.Duration) error {
	return d.network.Here.Configure(wgtypes.Config{Peers: []wgtypes.PeerConfig{{
		PublicKey:                   d.network.There.PublicKey,
		UpdateOnly:                  true,
		PersistentKeepaliveInterval: &interval,
	}}})
}

// keepalive reads that of the peer from the device.
func (d *demo) keepalive() (time.Duration, error) {
	device, err := d.network.Here.Device()
	if err != nil {
		return 0, err
	}
	for _, p := range device.Peers {
		if p.PublicKey == d.network.There.PublicKey {
			return p.PersistentKeepaliveInterval, nil
		}
	}
	return 0, fmt.Errorf("%s: %w", d.network.Here.Name, lab.ErrNoPeer)
}

// awaitKeepalive waits until the peer's keepalive is what it should be, and returns it.
func (d *demo) awaitKeepalive(ctx context.Context, want time.Duration) (time.Duration, error) {
	for deadline := time.Now().Add(patience); ; {
		got, err := d.keepalive()
		if err != nil || got == want {
			return got, err
		}
		if time.Now().After(deadline) {
			return got, fmt.Errorf("the peer's keepalive is %s, expected %s", interval(got), interval(want))
		}
		if err := sleep(ctx, time.Millisecond); err != nil {
			return got, err
		}
	}
}

// median is the middle one of some times.
func median(times []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(times))[len(times)/2]
}
