// SPDX-License-Identifier: Apache-2.0

package lazy_test

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// wire is a Detector without a device, for examples and tests: packet is a
// packet to the nth peer that was added. *detect.Detector is a real one.
type wire struct {
	events chan detect.Event
	last   detect.ID
}

func newWire() *wire { return &wire{events: make(chan detect.Event)} }

func (w *wire) packet(n detect.ID) { w.events <- detect.Event{ID: n, Time: time.Now()} }

func (w *wire) Add([]netip.Prefix) (detect.ID, error)           { w.last++; return w.last, nil }
func (w *wire) SetPrefixes(detect.ID, []netip.Prefix) error     { return nil }
func (w *wire) SetRules(detect.ID, []detect.Rule) error         { return nil }
func (w *wire) Remove(detect.ID) error                          { return nil }
func (w *wire) Arm(detect.ID, bool) error                       { return nil }
func (w *wire) Open(detect.ID) error                            { return nil }
func (w *wire) Discard(detect.ID) error                         { return nil }
func (w *wire) Activity(detect.ID) (a detect.Activity, e error) { return a, nil }
func (w *wire) Events() <-chan detect.Event                     { return w.events }

// negotiator is a Connector of one's own: where a mesh VPN does ICE, asks its
// signal server, or sets an endpoint that it knows.
type negotiator struct{}

func (negotiator) Open(ctx context.Context, peer lazy.Key, wake lazy.Wake) error {
	select {
	case <-time.After(10 * time.Millisecond): // talk to the remote
		return nil
	case <-ctx.Done(): // it takes too long, or nobody needs the peer any more
		return ctx.Err()
	}
}

func (negotiator) Close(context.Context, lazy.Key) error { return nil }

var (
	paris = lazy.Peer{Key: lazy.Key{1}, AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}}
	tokyo = lazy.Peer{Key: lazy.Key{2}, AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/32")}}
	names = map[lazy.Key]string{paris.Key: "paris", tokyo.Key: "tokyo"}
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// A dormant peer is opened when a packet needs it, and closed when it is told
// to sleep, or has been silent for the threshold.
func Example() {
	wire := newWire()
	m, err := lazy.New(lazy.Options{
		Detector:            wire,
		Connector:           negotiator{},
		InactivityThreshold: 5 * time.Minute,
		Wake:                lazy.WakeHold, // packets wait for Open
	})
	check(err)
	defer m.Close()
	changes, err := m.Subscribe()
	check(err)

	_, err = m.AddPeer(paris)
	check(err)
	wire.packet(1)
	for range 3 { // added, woken, connected
		change, err := changes.Next(context.Background())
		check(err)
		fmt.Printf("%q to %q, reason %q\n", change.From, change.To, change.Wake.Reason)
	}

	status, err := m.Peer(paris.Key)
	check(err)
	fmt.Println("will sleep within 5 minutes:", time.Until(status.IdleAt) <= 5*time.Minute)
	check(m.DeactivatePeer(paris.Key))
	status, err = m.Peer(paris.Key)
	check(err)
	fmt.Println(status.State, "after", status.Wakes, "wake")

	// Output:
	// "" to "idle", reason ""
	// "idle" to "connecting", reason "egress"
	// "connecting" to "connected", reason "egress"
	// will sleep within 5 minutes: true
	// idle after 1 wake
}

// Routers of one network are a group: a wake of one opens the others.
func ExampleManager_SetGroups() {
	wire := newWire()
	m, err := lazy.New(lazy.Options{Detector: wire, Connector: negotiator{}})
	check(err)
	defer m.Close()
	for _, peer := range []lazy.Peer{paris, tokyo} {
		_, err := m.AddPeer(peer)
		check(err)
	}
	check(m.SetGroups(map[string][]lazy.Key{"10.20.0.0/16": {paris.Key, tokyo.Key}}))

	changes, err := m.Subscribe()
	check(err)
	wire.packet(2)
	for range 2 {
		change, err := changes.Next(context.Background())
		check(err)
		fmt.Println(names[change.Key], "is", change.To, "by", change.Wake.Reason)
	}

	// Output:
	// tokyo is connecting by egress
	// paris is connecting by group
}

// A subscription tells what becomes of peers, here of one whose connection its
// owner loses and has back.
func ExampleManager_Subscribe() {
	m, err := lazy.New(lazy.Options{Detector: newWire(), Connector: negotiator{}})
	check(err)
	changes, err := m.Subscribe()
	check(err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			change, err := changes.Next(context.Background())
			if err != nil { // lazy.ErrClosed
				return
			}
			fmt.Println(names[change.Key], "is", change.To)
		}
	}()

	check(m.AddActivePeers(tokyo))
	check(m.ReportDisconnected(tokyo.Key))
	check(m.ReportConnected(tokyo.Key))
	check(m.Close())
	<-done

	// Output:
	// tokyo is connected
	// tokyo is connecting
	// tokyo is connected
}
