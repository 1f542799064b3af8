// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lazybpf/lazybpf/pkg/lazy"
)

var _ lazy.Connector = (*Connector)(nil)

// stories are what happens to a peer with a keepalive of 25 s, step by step, and what is seen of it: the keepalives that
// are set, drift, and that the keepalive is not yet what it should be. "packet" is an Open because of one, "others 30s" is
// somebody else who sets the keepalive, and "broken" is a device that refuses.
var stories = []struct{ steps, seen string }{
	{"close", "0s"},
	{"close, open", "0s, 25s"},
	{"close, open, close", "0s, 25s, 0s"},

	// A packet and its handshake come first.
	{"close, packet", "0s"},
	{"close, packet, wait", "0s, 25s"},
	{"close, packet, packet, wait, wait", "0s, 25s"},
	{"close, packet, open, wait", "0s, 25s"},
	{"close, packet, close, wait", "0s"},
	{"close, packet, close, packet, wait", "0s, 25s"},
	{"close, packet, give back, wait", "0s, 25s"},
	{"close, packet, forget, wait", "0s"},
	{"close, packet, observe, settle, wait", "0s, unsettled, 25s"},
	{"close, broken, packet, wait, works, observe, settle", "0s, unsettled, 25s"},
	{"close, packet, others 30s, observe, wait", "0s, drift"},

	// No message where nothing changes.
	{"open", ""},
	{"close, close", "0s"},
	{"close, open, open", "0s, 25s"},
	{"settle", ""},
	{"close, settle", "0s"},
	{"observe", ""},
	{"close, observe", "0s"},

	// What others set an open peer to is its keepalive from then on.
	{"others 30s, observe", "drift"},
	{"others 30s, observe, observe", "drift"},
	{"others 30s, observe, settle", "drift"},
	{"others 30s, observe, close, open", "drift, 0s, 30s"},
	{"others 0s, observe, close, open", "drift"},

	// A dormant peer is turned off again, and has the new keepalive once it is open.
	{"close, others 30s, observe, settle, open", "0s, drift, unsettled, 0s, 30s"},
	{"close, others 25s, observe, settle, open", "0s, drift, unsettled, 0s, 25s"},
	{"close, others 0s, observe, open", "0s, 25s"},

	// Without a look, nobody knows.
	{"close, others 30s, close", "0s"},
}

// observe shows the connector a reading, and returns whose keepalive has drifted.
func observe(t *testing.T, c *Connector, since time.Time, peers []Peer) []lazy.Key {
	t.Helper()
	reading, err := c.Observe(since, peers, anybody)
	if err != nil {
		t.Error(err)
	}
	return reading.Drifted
}

func TestStories(t *testing.T) {
	for _, story := range stories {
		synctest.Test(t, func(t *testing.T) {
			if got := strings.Join(tell(t, story.steps), ", "); got != story.seen {
				t.Errorf("%s: %q is seen, want %q", story.steps, got, story.seen)
			}
		})
	}
}

// tell has a story happen, and returns what is seen.
func tell(t *testing.T, steps string) (seen []string) {
	r := newRecorder(t)
	key := keyOf(1)
	c := newConnector(r, nil, key)
	for step := range strings.SplitSeq(steps, ", ") {
		verb, argument, _ := strings.Cut(step, " ")
		var err error
		switch verb {
		case "open":
			err = c.Open(t.Context(), key, asked)
		case "packet":
			err = c.Open(t.Context(), key, egress)
		case "wait":
			time.Sleep(keepaliveDelay)
			synctest.Wait()
		case "close":
			err = c.Close(t.Context(), key)
		case "settle":
			err = c.Settle(key)
		case "forget":
			c.Forget(key)
		case "give":
			err = c.GiveBack()
		case "broken":
			r.check = func() error { return errBroken }
		case "works":
			r.check = nil
		case "others":
			var keepalive time.Duration
			keepalive, err = time.ParseDuration(argument)
			r.set(keepalive, key)
		case "observe":
			time.Sleep(time.Nanosecond) // what was changed in the moment of the reading is not looked at
			reading, failed := c.Observe(time.Now(), []Peer{r.peer(key)}, anybody)
			if err = failed; len(reading.Drifted) > 0 {
				seen = append(seen, "drift")
			}
			if len(reading.Unsettled) > 0 {
				seen = append(seen, "unsettled")
			}
		default:
			t.Fatalf("unknown step %q", step)
		}
		if err != nil {
			t.Errorf("%s: %s: %v", steps, step, err)
		}
		for _, message := range r.take() {
			seen = append(seen, strings.TrimPrefix(message, "peer 1 "))
		}
	}
	return seen
}

// TestWakesShareAMessage has peers woken by packets one after the other.
func TestWakesShareAMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(t)
		keys := []lazy.Key{keyOf(1), keyOf(2), keyOf(3)}
		c := newConnector(r, nil, keys...)
		if err := c.CloseAll(keys); err != nil {
			t.Fatal(err)
		}
		r.take()
		for _, key := range keys {
			if err := c.Open(t.Context(), key, egress); err != nil {
				t.Fatal(err)
			}
			time.Sleep(keepaliveDelay / 4)
		}
		time.Sleep(keepaliveDelay)
		synctest.Wait()
		if got, want := r.take(), []string{"peer 1 25s, peer 2 25s, peer 3 25s"}; !slices.Equal(got, want) {
			t.Errorf("messages %q, want %q", got, want)
		}
	})
}

func TestOpenSetsEndpointAndKeepaliveAtOnce(t *testing.T) {
	for _, endpoint := range []string{"192.0.2.1:51820", "[2001:db8::1]:51820"} {
		r := newRecorder(t)
		key := keyOf(1)
		c := newConnector(r, func(_ context.Context, peer lazy.Key) (netip.AddrPort, error) {
			if peer != key {
				t.Errorf("resolve is asked for %s", peer)
			}
			return netip.MustParseAddrPort(endpoint), nil
		}, key)
		if err := c.Close(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		r.take()
		if err := c.Open(t.Context(), key, lazy.Wake{Reason: lazy.ReasonEgress}); err != nil {
			t.Fatal(err)
		}
		if got, want := r.take(), []string{"peer 1 25s at " + endpoint}; !slices.Equal(got, want) {
			t.Errorf("messages %q, want %q", got, want)
		}
	}
}

// TestEndpointOfAnOpenPeer has a name that resolves to another address than before.
func TestEndpointOfAnOpenPeer(t *testing.T) {
	r := newRecorder(t)
	c := newConnector(r, func(context.Context, lazy.Key) (netip.AddrPort, error) {
		return netip.MustParseAddrPort("192.0.2.2:51820"), nil
	}, keyOf(1))
	if err := c.Open(t.Context(), keyOf(1), lazy.Wake{Reason: lazy.ReasonRequest}); err != nil {
		t.Fatal(err)
	}
	if got, want := r.take(), []string{"peer 1 25s at 192.0.2.2:51820"}; !slices.Equal(got, want) {
		t.Errorf("messages %q, want %q", got, want)
	}
}

// TestIngressKeepsEndpoint has a peer that has roamed: WireGuard knows where to, a resolver does not.
func TestIngressKeepsEndpoint(t *testing.T) {
	r := newRecorder(t)
	c := newConnector(r, func(context.Context, lazy.Key) (netip.AddrPort, error) {
		t.Error("resolve is asked")
		return netip.MustParseAddrPort("192.0.2.1:51820"), nil
	}, keyOf(1))
	if err := c.Close(t.Context(), keyOf(1)); err != nil {
		t.Fatal(err)
	}
	r.take()
	if err := c.Open(t.Context(), keyOf(1), lazy.Wake{Reason: lazy.ReasonIngress}); err != nil {
		t.Fatal(err)
	}
	c.setWaiting()
	if got, want := r.take(), []string{"peer 1 25s"}; !slices.Equal(got, want) {
		t.Errorf("messages %q, want %q", got, want)
	}
}

func TestResolveFails(t *testing.T) {
	r := newRecorder(t)
	broken := errors.New("no such host")
	c := newConnector(r, func(context.Context, lazy.Key) (netip.AddrPort, error) { return netip.AddrPort{}, broken }, keyOf(1))
	if err := c.Open(t.Context(), keyOf(1), lazy.Wake{Reason: lazy.ReasonEgress}); !errors.Is(err, broken) {
		t.Errorf("error %v, want that of resolve", err)
	}
	if got := r.take(); len(got) > 0 {
		t.Errorf("messages %q after resolve has failed", got)
	}
}

// TestUnknownPeer has peers that are not the connector's.
func TestUnknownPeer(t *testing.T) {
	r := newRecorder(t)
	c := newConnector(r, nil, keyOf(1), keyOf(2))
	c.Forget(keyOf(1))
	c.Forget(keyOf(2))
	reading, err := c.Observe(time.Now(), []Peer{r.peer(keyOf(1)), r.peer(keyOf(2))}, func(lazy.Key) bool { return false })
	if err != nil || len(reading.Drifted)+len(reading.Unsettled) > 0 {
		t.Errorf("reading %+v, %v", reading, err)
	}
	c.SetKeepalive(keyOf(1), nil)
	err = errors.Join(
		c.Close(t.Context(), keyOf(1)), c.Settle(keyOf(1)), c.TryNext(keyOf(1)), c.Release(keyOf(1)),
		c.CloseAll([]lazy.Key{keyOf(1)}),
		c.Open(t.Context(), keyOf(2), asked), c.Close(t.Context(), keyOf(2)), c.GiveBack(),
	)
	if err != nil {
		t.Error(err)
	}
	if got := r.take(); len(got) > 0 {
		t.Errorf("messages %q", got)
	}
}

// TestNothingToRemember has peers that sleep without a keepalive until something is done with them.
func TestNothingToRemember(t *testing.T) {
	key := keyOf(1)
	minute := time.Minute
	for name, test := range map[string]struct {
		do   func(*testing.T, *Connector) error
		want []string // the messages by then, and after an Open
	}{
		"opened":        {func(t *testing.T, c *Connector) error { return c.Open(t.Context(), key, asked) }, nil},
		"closed":        {func(t *testing.T, c *Connector) error { return c.Close(t.Context(), key) }, nil},
		"with a policy": {func(_ *testing.T, c *Connector) error { c.SetKeepalive(key, &minute); return nil }, []string{"peer 1 1m0s"}},
		"changed by others": {func(t *testing.T, c *Connector) error {
			if drifted := observe(t, c, time.Now(), []Peer{{Key: key, Keepalive: every}}); len(drifted) != 1 {
				t.Error("it is not seen to have drifted")
			}
			return c.Settle(key)
		}, []string{"peer 1 0s", "peer 1 25s"}},
	} {
		r := newRecorder(t)
		c := newConnector(r, nil)
		r.set(0, key)
		c.Adopt(Peer{Key: key}, 0, false)
		if err := c.CloseAll([]lazy.Key{key}); err != nil || c.peer(key) != nil {
			t.Errorf("%s: %v is remembered: %v", name, c.peer(key), err)
		}
		if err := errors.Join(test.do(t, c), c.Open(t.Context(), key, asked)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := r.take(); !slices.Equal(got, test.want) {
			t.Errorf("%s: messages %q, want %q", name, got, test.want)
		}
		c.Adopt(Peer{Key: key}, 0, false) // it is another one
		if c.peer(key) != nil {
			t.Errorf("%s: what was before is remembered", name)
		}
	}
}

// TestFailureIsTriedAgain has a device that refuses each message once: what it did not take is not taken for granted.
func TestFailureIsTriedAgain(t *testing.T) {
	key := keyOf(1)
	for name, test := range map[string]struct {
		before func(*Connector) error
		change func(*Connector) error
		want   string
	}{
		"Open": {
			func(c *Connector) error { return c.Close(t.Context(), key) },
			func(c *Connector) error { return c.Open(t.Context(), key, lazy.Wake{}) }, "peer 1 25s",
		},
		"Close": {
			func(*Connector) error { return nil },
			func(c *Connector) error { return c.Close(t.Context(), key) }, "peer 1 0s",
		},
		"CloseAll": {
			func(*Connector) error { return nil },
			func(c *Connector) error { return c.CloseAll([]lazy.Key{key}) }, "peer 1 0s",
		},
		"GiveBack": {
			func(c *Connector) error { return c.Close(t.Context(), key) },
			func(c *Connector) error { return c.GiveBack() }, "peer 1 25s",
		},
	} {
		r := newRecorder(t)
		c := newConnector(r, nil, key)
		if err := test.before(c); err != nil {
			t.Fatal(err)
		}
		r.take()
		broken := errors.New("broken")
		r.check = func() error { return broken }
		if err := test.change(c); !errors.Is(err, broken) {
			t.Errorf("%s: error %v, want that of the device", name, err)
		}
		if drifted := observe(t, c, time.Now(), []Peer{r.peer(key)}); len(drifted) > 0 {
			t.Errorf("%s: the peer is as it was, and taken for changed by others", name)
		}
		r.check = nil
		if err := test.change(c); err != nil {
			t.Error(err)
		}
		if got := r.take(); !slices.Equal(got, []string{test.want}) {
			t.Errorf("%s again: messages %q, want %q", name, got, test.want)
		}
	}
}

// TestObserveOldReading has the device read before the connector changed it, and looked at after.
func TestObserveOldReading(t *testing.T) {
	r := newRecorder(t)
	key := keyOf(1)
	c := newConnector(r, nil, key)
	begin, reading := time.Now(), []Peer{r.peer(key)}
	if err := c.Close(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if drifted := observe(t, c, begin, reading); len(drifted) > 0 {
		t.Error("the connector's own change is taken for one of others")
	}
	if err := c.Open(t.Context(), key, lazy.Wake{}); err != nil {
		t.Fatal(err)
	}
	if got, want := r.take(), []string{"peer 1 0s", "peer 1 25s"}; !slices.Equal(got, want) {
		t.Errorf("messages %q, want %q", got, want)
	}
}

// TestObserveWhileChanging looks at a peer in the middle of a change, when nobody can tell whose keepalive was read.
func TestObserveWhileChanging(t *testing.T) {
	r := newRecorder(t)
	key := keyOf(1)
	c := newConnector(r, nil, key)
	r.check = func() error {
		if drifted := observe(t, c, time.Now(), []Peer{{Key: key, Keepalive: time.Hour}}); len(drifted) > 0 {
			t.Error("a peer that is being changed has drifted")
		}
		return nil
	}
	if err := c.Close(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if got := c.Record().Peers[key].Original; got != every {
		t.Errorf("keepalive %s is to be given back, want %s", got, every)
	}
}

// TestObserveTellsWhichPeers has several peers, of which some have drifted.
func TestObserveTellsWhichPeers(t *testing.T) {
	r := newRecorder(t)
	c := newConnector(r, nil, keyOf(1), keyOf(2), keyOf(3))
	r.set(time.Minute, keyOf(2))
	drifted := observe(t, c, time.Now(), []Peer{r.peer(keyOf(1)), r.peer(keyOf(2)), r.peer(keyOf(3))})
	if !slices.Equal(drifted, []lazy.Key{keyOf(2)}) {
		t.Errorf("drifted: %v, want the second", drifted)
	}
}

func TestManyPeersInOneMessage(t *testing.T) {
	r := newRecorder(t)
	c := newConnector(r, nil, keyOf(1), keyOf(2), keyOf(3))
	c.Adopt(Peer{Key: keyOf(4)}, 0, true)     // has none
	c.Adopt(Peer{Key: keyOf(5)}, every, true) // is off, as a daemon that died has left it
	for _, step := range []struct {
		name string
		do   func() error
		want []string
	}{
		{"CloseAll", func() error { return c.CloseAll([]lazy.Key{keyOf(1), keyOf(2), keyOf(4), keyOf(5)}) },
			[]string{"peer 1 0s, peer 2 0s"}},
		{"CloseAll again", func() error { return c.CloseAll([]lazy.Key{keyOf(1), keyOf(2)}) }, nil},
		{"GiveBack", c.GiveBack, []string{"peer 1 25s, peer 2 25s, peer 5 25s"}},
		{"GiveBack again", c.GiveBack, nil},
		{"CloseAll of nobody", func() error { return c.CloseAll(nil) }, nil},
	} {
		if err := step.do(); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
		if got := r.take(); !slices.Equal(got, step.want) {
			t.Errorf("%s: messages %q, want %q", step.name, got, step.want)
		}
	}
}

// TestRecord is the same whether a peer is open or closed.
func TestRecord(t *testing.T) {
	r := newRecorder(t)
	c := newConnector(r, nil, keyOf(1), keyOf(2))
	c.Adopt(Peer{Key: keyOf(3)}, 0, true)
	if err := c.Close(t.Context(), keyOf(2)); err != nil {
		t.Fatal(err)
	}
	want := map[lazy.Key]Keepalive{keyOf(1): {every, every}, keyOf(2): {every, every}}
	if got := c.Record(); got.Interface != c.device.ID() || !maps.Equal(got.Peers, want) {
		t.Errorf("record %v, want %v", got, want)
	}
}

// TestLastOneAskedWins has a peer closed while its opening is still on its way to the device.
func TestLastOneAskedWins(t *testing.T) {
	r := newRecorder(t)
	key := keyOf(1)
	c := newConnector(r, nil, key)
	if err := c.Close(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	opening, goOn := make(chan bool), make(chan bool)
	r.check = sync.OnceValue(func() error {
		close(opening)
		<-goOn
		return nil
	})
	var calls sync.WaitGroup
	calls.Go(func() {
		if err := c.Open(t.Context(), key, lazy.Wake{}); err != nil {
			t.Error(err)
		}
	})
	<-opening
	calls.Go(func() {
		if err := c.Close(t.Context(), key); err != nil {
			t.Error(err)
		}
	})
	// Another peer need not wait for any of this.
	c.Adopt(Peer{Key: keyOf(2), Keepalive: every}, every, true)
	if err := c.Settle(keyOf(2)); err != nil {
		t.Error(err)
	}
	close(goOn)
	calls.Wait()
	if got := r.peer(key).Keepalive; got != 0 {
		t.Errorf("keepalive %s of a closed peer", got)
	}
}

// TestConcurrentCalls has one peer opened, closed and looked at from everywhere. Whoever comes last, the device and the
// connector agree in the end.
func TestConcurrentCalls(t *testing.T) {
	r := newRecorder(t)
	key := keyOf(1)
	c := newConnector(r, nil, key)
	const rounds = 500
	var calls sync.WaitGroup
	for _, call := range []func() error{
		func() error { return c.Open(t.Context(), key, lazy.Wake{}) },
		func() error { return c.Close(t.Context(), key) },
		func() error { return c.Settle(key) },
		func() error { _, err := c.Observe(time.Now(), []Peer{r.peer(key)}, anybody); return err },
		func() error { c.Record(); return nil },
	} {
		calls.Go(func() {
			for range rounds {
				if err := call(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	calls.Wait()
	r.take()
	if err := c.Settle(key); err != nil {
		t.Fatal(err)
	}
	if got := r.take(); len(got) > 0 {
		t.Errorf("messages %q were still missing", got)
	}
	if got, want := r.peer(key).Keepalive, c.peer(key).want(); got != want {
		t.Errorf("the device has keepalive %s, it should have %s", got, want)
	}
}
