// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/pkg/detect"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// places is a finder that finds all peers at several places. What is to happen
// while it looks, happens.
type places struct {
	at        []string
	meanwhile func()
	starts    bool // the peer's machine
}

func (p places) Finds(lazy.Key) bool { return true }

func (p places) Starts(lazy.Key) bool { return p.starts }

func (p places) Find(context.Context, lazy.Key, lazy.Wake) (found []netip.AddrPort, err error) {
	if p.meanwhile != nil {
		p.meanwhile()
	}
	for _, a := range p.at {
		found = append(found, netip.MustParseAddrPort(a))
	}
	return found, nil
}

// wantMessages fails the test unless the device got these messages since the last look.
func (r *recorder) wantMessages(want ...string) {
	r.t.Helper()
	if got := r.take(); !slices.Equal(got, want) {
		r.t.Errorf("messages %q, want %q", got, want)
	}
}

// TestSeveralPlaces tries the next one where a peer does not answer.
func TestSeveralPlaces(t *testing.T) {
	r := newRecorder(t)
	c := newConnector(r, nil, keyOf(1))
	c.finder = places{at: []string{"192.0.2.1:1", "192.0.2.2:2", "[2001:db8::3]:3"}}
	if err := c.Open(t.Context(), keyOf(1), lazy.Wake{Reason: lazy.ReasonEgress}); err != nil {
		t.Fatal(err)
	}
	r.wantMessages("peer 1 25s at 192.0.2.1:1")

	// silent has the device read so long after the last change, and says whether the peer does not answer.
	silent := func(after time.Duration, handshake time.Time) bool {
		t.Helper()
		peer := r.peer(keyOf(1))
		peer.LastHandshake = handshake
		reading, err := c.Observe(time.Now().Add(after), []Peer{peer}, anybody)
		if err != nil {
			t.Fatal(err)
		}
		return slices.Contains(reading.Silent, keyOf(1))
	}
	next := func(want ...string) {
		t.Helper()
		if err := c.TryNext(keyOf(1)); err != nil {
			t.Fatal(err)
		}
		r.wantMessages(want...)
	}
	if silent(answerTime/2, time.Time{}) {
		t.Error("it has not had the time to answer")
	}
	for _, place := range []string{"192.0.2.2:2", "[2001:db8::3]:3", "192.0.2.1:1", "192.0.2.2:2"} { // and round again
		if !silent(2*answerTime, time.Time{}) {
			t.Error("it does not answer, and nobody sees that")
		}
		next("peer 1 25s at " + place)
	}
	if silent(2*answerTime, time.Now().Add(-time.Minute)) {
		t.Error("it has a session, and answers without a handshake")
	}
	if silent(2*answerTime, time.Now()) {
		t.Error("it has answered, and is looked for elsewhere")
	}
	next()
	if !silent(time.Hour, time.Time{}) {
		t.Error("it answers no longer, and nobody sees that")
	}
	next() // there is none before its name is looked up again
}

// TestNoOtherPlace: one that is closed, or that was found at one place alone, stays there.
func TestNoOtherPlace(t *testing.T) {
	for name, at := range map[string][]string{"one": {"192.0.2.1:1"}, "closed": {"192.0.2.1:1", "192.0.2.2:2"}} {
		r := newRecorder(t)
		c := newConnector(r, nil, keyOf(1))
		c.finder = places{at: at}
		if err := c.Open(t.Context(), keyOf(1), lazy.Wake{}); err != nil {
			t.Fatal(err)
		}
		if name == "closed" {
			if err := c.Close(t.Context(), keyOf(1)); err != nil {
				t.Fatal(err)
			}
		}
		r.take()
		reading, err := c.Observe(time.Now().Add(time.Hour), []Peer{r.peer(keyOf(1))}, anybody)
		if awake := name != "closed"; err != nil || (len(reading.Silent) > 0) != awake {
			t.Errorf("%s: silent %v, %v", name, reading.Silent, err)
		}
		if err := c.TryNext(keyOf(1)); err != nil {
			t.Error(err)
		}
		r.wantMessages()
	}
}

// TestMove has the name of an open peer looked up that does not answer.
func TestMove(t *testing.T) {
	one, two, three := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:2"), netip.MustParseAddrPort("192.0.2.3:3")
	for name, test := range map[string]struct {
		from   netip.AddrPort
		found  []netip.AddrPort
		closed bool
		want   []string // where it is tried, one after the other
	}{
		"elsewhere":        {from: one, found: []netip.AddrPort{two}, want: []string{"192.0.2.2:2"}},
		"where it is":      {from: one, found: []netip.AddrPort{one}},
		"nowhere":          {from: one},
		"was nowhere":      {found: []netip.AddrPort{one}, want: []string{"192.0.2.1:1"}},
		"several":          {from: two, found: []netip.AddrPort{one, two, three}, want: []string{"192.0.2.3:3", "192.0.2.1:1", "192.0.2.2:2"}},
		"several others":   {from: one, found: []netip.AddrPort{two, three}, want: []string{"192.0.2.2:2", "192.0.2.3:3", "192.0.2.2:2"}},
		"asleep meanwhile": {from: one, found: []netip.AddrPort{two}, closed: true},
	} {
		r := newRecorder(t)
		c := newConnector(r, nil, keyOf(1))
		if test.closed {
			if err := c.Close(t.Context(), keyOf(1)); err != nil {
				t.Fatal(err)
			}
			r.take()
		}
		moved, err := c.Move(keyOf(1), test.from, test.found)
		if err != nil || moved != (len(test.want) > 0) {
			t.Errorf("%s: moved %v, %v", name, moved, err)
		}
		for i, at := range test.want {
			if i > 0 {
				if err := c.TryNext(keyOf(1)); err != nil {
					t.Error(err)
				}
			}
			r.wantMessages("peer 1 25s at " + at)
		}
		r.wantMessages()
	}
}

// TestOldSessions has peers found whose machines may have been started: only a session that they cannot know goes.
func TestOldSessions(t *testing.T) {
	woke := time.Now()
	for name, test := range map[string]struct {
		handshake time.Time
		starts    bool
		at        string
		renewed   bool
	}{
		"young":           {woke.Add(-time.Minute), true, "192.0.2.1", true},
		"no hook":         {woke.Add(-time.Minute), false, "192.0.2.1", false},
		"over":            {woke.Add(-lazy.MinEvictAfter), true, "192.0.2.1", false},
		"of the start":    {woke.Add(time.Second), true, "192.0.2.1", false},
		"none":            {time.Time{}, true, "192.0.2.1", false},
		"link-local":      {woke.Add(-time.Minute), true, "fe80::1", false},
		"with an address": {woke.Add(-time.Minute), true, "2001:db8::1", true},
	} {
		p := wholePeer(1)
		p.LastHandshakeTime = test.handshake
		p.Endpoint.IP = net.ParseIP(test.at)
		d := newFakeDevice(p)
		c, _ := evictor(t, d)
		c.finder = places{starts: test.starts}
		if err := c.Open(t.Context(), keyOf(1), lazy.Wake{Reason: lazy.ReasonEgress, Time: woke}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		c.setWaiting()
		got, _ := d.get(keyOf(1))
		if renewed := got.LastHandshakeTime.IsZero() && !test.handshake.IsZero(); renewed != test.renewed {
			t.Errorf("%s: the session is gone: %v, want %v", name, renewed, test.renewed)
		}
		want := p
		want.LastHandshakeTime = got.LastHandshakeTime
		expectPeer(t, d, want)
		if reading := look(t, c); len(reading.Drifted)+len(reading.Unsettled)+len(reading.Returned) > 0 {
			t.Errorf("%s: reading %+v", name, reading)
		}
	}
}

// TestOldSessionHalf has a device remove a peer and then refuse to put it back: it must not be lost.
func TestOldSessionHalf(t *testing.T) {
	p := wholePeer(1)
	p.LastHandshakeTime = time.Now().Add(-time.Minute)
	d := newFakeDevice(p)
	c, _ := evictor(t, d)
	c.finder = places{starts: true}
	refused := false
	d.beforePeer = func(config wgtypes.PeerConfig) error {
		if !config.Remove && !refused {
			refused = true
			return errBroken
		}
		return nil
	}
	if err := c.Open(t.Context(), keyOf(1), lazy.Wake{Time: time.Now()}); !errors.Is(err, errBroken) || !d.has(keyOf(1)) {
		t.Errorf("error %v, on the device: %v", err, d.has(keyOf(1)))
	}
	if err := c.Open(t.Context(), keyOf(1), lazy.Wake{Time: time.Now()}); err != nil {
		t.Error(err)
	}
	expectPeer(t, d, wholePeer(1))
}

// TestFoundByItself has a peer come while somebody looks for it: WireGuard knows where it is, the finder does not.
func TestFoundByItself(t *testing.T) {
	r := newRecorder(t)
	c := newConnector(r, nil, keyOf(1))
	d := &answering{events: make(chan detect.Event)}
	c.finder = places{at: []string{"192.0.2.1:1"}, meanwhile: func() { d.received = 1 }}
	m, err := lazy.New(lazy.Options{Detector: d, Connector: c})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := c.Close(t.Context(), keyOf(1)); err != nil {
		t.Fatal(err)
	}
	r.take()
	changes, err := m.Subscribe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.AddPeer(lazy.Peer{Key: keyOf(1)}); err != nil {
		t.Fatal(err)
	}
	if err := m.ActivatePeer(keyOf(1)); err != nil {
		t.Fatal(err)
	}
	for change := range changes.All(t.Context()) {
		if change.To == lazy.Connected {
			break
		}
	}
	r.wantMessages("peer 1 25s")
}

// answering is a detector that has seen so many packets from its peer.
type answering struct {
	lazy.Detector
	events   chan detect.Event
	received uint64
}

func (d *answering) Events() <-chan detect.Event           { return d.events }
func (d *answering) Add([]netip.Prefix) (detect.ID, error) { return 1, nil }
func (d *answering) Arm(detect.ID, bool) error             { return nil }
func (d *answering) Open(detect.ID) error                  { return nil }
func (d *answering) Activity(detect.ID) (detect.Activity, error) {
	return detect.Activity{RxPackets: d.received}, nil
}

// TestKeepaliveOfPolicy is that of an open peer, and never what it gets back.
func TestKeepaliveOfPolicy(t *testing.T) {
	r := newRecorder(t)
	c := newConnector(r, nil, keyOf(1))
	set := func(keepalive *time.Duration, want ...string) {
		t.Helper()
		c.SetKeepalive(keyOf(1), keepalive)
		r.wantMessages() // the journal comes first
		if err := c.Settle(keyOf(1)); err != nil {
			t.Fatal(err)
		}
		r.wantMessages(want...)
	}
	set(nil)
	set(new(10*time.Second), "peer 1 10s")
	if got, want := c.Record().Peers[keyOf(1)], (Keepalive{every, 10 * time.Second}); got != want {
		t.Errorf("the journal would say %v, want %v", got, want)
	}
	if err := c.Close(t.Context(), keyOf(1)); err != nil {
		t.Fatal(err)
	}
	r.wantMessages("peer 1 0s")
	set(new(20 * time.Second)) // for later
	if err := c.Open(t.Context(), keyOf(1), lazy.Wake{}); err != nil {
		t.Fatal(err)
	}
	r.wantMessages("peer 1 20s")
	if err := c.GiveBack(); err != nil {
		t.Fatal(err)
	}
	r.wantMessages("peer 1 25s")

	set(new(time.Duration(0)), "peer 1 0s")
	if err := c.Release(keyOf(1)); err != nil {
		t.Fatal(err)
	}
	r.wantMessages("peer 1 25s")
	if c.peer(keyOf(1)) != nil {
		t.Error("it is known after its release")
	}
}
