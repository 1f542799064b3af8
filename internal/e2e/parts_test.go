// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/wg"
	"github.com/lazybpf/lazybpf/pkg/detect"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// parts are what a daemon is made of, put together by a test that wants what the daemon does not let it choose.
type parts struct {
	device    *wg.Device
	connector *wg.Connector
	detector  *detect.Detector
	manager   *lazy.Manager
}

// choice is what parts can be different in; the zero value takes what the daemon takes.
type choice struct {
	attach  detect.Attach
	wake    lazy.WakeMode
	resolve resolve
	// between puts a connector of the test's between manager and device.
	between func(lazy.Connector) lazy.Connector
}

// resolve is a wg.Finder that finds all peers at one place; nil has nothing to find.
type resolve func(ctx context.Context, peer lazy.Key) (netip.AddrPort, error)

func (r resolve) Finds(lazy.Key) bool { return r != nil }

func (r resolve) Starts(lazy.Key) bool { return false }

func (r resolve) Find(ctx context.Context, peer lazy.Key, _ lazy.Wake) ([]netip.AddrPort, error) {
	endpoint, err := r(ctx, peer)
	return []netip.AddrPort{endpoint}, err
}

// newParts puts all peers of the interface to sleep.
func newParts(iface string, c choice) (*parts, error) {
	p := new(parts)
	if err := p.start(iface, c); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *parts) start(iface string, c choice) (err error) {
	if p.device, err = wg.Open(iface); err != nil {
		return err
	}
	if p.detector, err = detect.New(detect.Options{Interface: iface, Attach: c.attach}); err != nil {
		return err
	}
	p.connector = wg.NewConnector(p.device, c.resolve)
	var connector lazy.Connector = p.connector
	if c.between != nil {
		connector = c.between(connector)
	}
	p.manager, err = lazy.New(lazy.Options{Detector: p.detector, Connector: connector, Wake: c.wake})
	if err != nil {
		return err
	}
	peers, err := p.device.Peers()
	if err != nil {
		return err
	}
	for _, peer := range peers {
		p.connector.Adopt(peer, peer.Keepalive, true)
		err := p.connector.Close(context.Background(), peer.Key)
		if err != nil {
			return err
		}
		if _, err := p.manager.AddPeer(lazy.Peer{Key: peer.Key, AllowedIPs: peer.AllowedIPs}); err != nil {
			return err
		}
	}
	return nil
}

// Close takes the parts apart in the order in which the daemon does.
func (p *parts) Close() error {
	var errs []error
	if p.manager != nil {
		errs = append(errs, p.manager.Close())
	}
	if p.connector != nil {
		errs = append(errs, p.connector.GiveBack())
	}
	if p.detector != nil {
		errs = append(errs, p.detector.Close())
	}
	if p.device != nil {
		errs = append(errs, p.device.Close())
	}
	return errors.Join(errs...)
}

// assembled are parts at work on Here's interface.
type assembled struct {
	*parts
	t   testing.TB
	key lazy.Key // There's
}

// assemble puts parts together and takes them apart when the test ends, if that has not.
func assemble(t testing.TB, n *lab.Network, c choice) *assembled {
	t.Helper()
	p, err := newParts(n.Here.Name, c)
	if err != nil {
		t.Fatal(err)
	}
	a := &assembled{p, t, lazy.Key(n.There.PublicKey)}
	t.Cleanup(a.stop)
	return a
}

func (a *assembled) stop() {
	if err := a.Close(); err != nil {
		a.t.Error(err)
	}
	*a.parts = parts{}
}

func (a *assembled) status() lazy.Status {
	a.t.Helper()
	status, err := a.manager.Peer(a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return status
}

func (a *assembled) awaitState(state lazy.State) {
	a.t.Helper()
	await(a.t, fmt.Sprintf("There is %s", state), func() bool { return a.status().State == state })
}

func (a *assembled) park() {
	a.t.Helper()
	a.awaitState(lazy.Connected)
	if err := a.manager.DeactivatePeer(a.key); err != nil {
		a.t.Fatal(err)
	}
	a.awaitState(lazy.Idle)
}

func (a *assembled) wake() {
	a.t.Helper()
	if err := a.manager.ActivatePeer(a.key); err != nil {
		a.t.Fatal(err)
	}
	a.awaitState(lazy.Connected)
}

func (a *assembled) figures() figures {
	a.t.Helper()
	s := a.status()
	return figures{
		state: s.State.String(), reason: s.LastWake.Reason.String(), wakes: s.Wakes,
		held: s.Activity.Held, replayed: s.Activity.Replayed, dropped: s.Activity.Dropped,
	}
}
