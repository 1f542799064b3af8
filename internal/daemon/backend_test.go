// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/pkg/control"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// do gives a backend a command that must succeed for every peer that it names.
func do(t *testing.T, verb func(context.Context, []string) ([]control.Result, error), names ...string) []control.Result {
	t.Helper()
	results, err := verb(t.Context(), names)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		if r.Error != "" || r.Peer != names[i] {
			t.Errorf("result %+v for %s", r, names[i])
		}
	}
	return results
}

// recent says whether something was within the last minute, and not in the future.
func recent(at time.Time) bool { return time.Since(at) >= 0 && time.Since(at) < time.Minute }

func TestStatus(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{Keepalive: every})
	permanent, fresh := keyOf("Perm"), keyOf("Fres")
	add(t, n, permanent, "10.98.0.0/24")
	add(t, n, fresh, "10.98.2.0/24", "10.98.1.0/24")
	ping(t, n, n.There.IPv4)
	options := optionsFor(t, n)
	options.InactivityThreshold = 2 * time.Minute
	options.Exclude = []string{"Perm"}
	d := manage(t, options)
	expectState(t, d, permanent, control.StateConnected)

	status, err := backend{d}.Status(t.Context(), control.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	if want := (control.Counts{Idle: 1, Connected: 1, Permanent: 1}); status.Counts != want {
		t.Errorf("counts %+v, want %+v", status.Counts, want)
	}
	if status.Interface != n.Here.Name || status.InactivityThreshold != "2m0s" || !recent(status.Since) ||
		status.Attach != "tcx" && status.Attach != "clsact" {
		t.Errorf("status %+v", status)
	}
	if len(status.Peers) != 3 {
		t.Fatalf("%d peers", len(status.Peers))
	}

	// It had a session when the daemon came.
	p := statusOf(t, d, there(n))
	if p.State != control.StateConnected || p.Permanent || p.Endpoint != n.There.Endpoint.String() || p.Wakes != 0 ||
		p.IdleIn != "2m0s" && p.IdleIn != "1m59s" && p.IdleIn != "1m58s" || p.LastTx != nil || p.LastRx != nil {
		t.Errorf("the connected peer: %+v", p)
	}
	if w := p.LastWake; w == nil || w.Reason != "start" || !recent(w.At) || w.Took != "" || w.Flow != "" || w.UID != nil {
		t.Errorf("last wake of the connected peer: %+v", w)
	}

	// A packet of root's wakes it later.
	do(t, backend{d}.Sleep, there(n).String())
	ping(t, n, n.There.IPv4)
	expectState(t, d, there(n), control.StateConnected)
	p = statusOf(t, d, there(n))
	if p.Wakes != 1 || p.TxPackets != 1 || p.TxBytes == 0 || p.LastTx == nil || !recent(*p.LastTx) {
		t.Errorf("after a packet: %+v", p)
	}
	w := p.LastWake
	if w == nil || w.Reason != "egress" || !recent(w.At) || w.UID == nil || *w.UID != 0 ||
		w.Flow != "icmp "+n.Here.IPv4.String()+" > "+n.There.IPv4.String() {
		t.Errorf("last wake by a packet: %+v", w)
	}
	if took, err := time.ParseDuration(w.Took); err != nil || took < 0 || took > time.Minute {
		t.Errorf("took %q", w.Took)
	}

	p = statusOf(t, d, permanent)
	if p.State != control.StateConnected || !p.Permanent || p.IdleIn != "" || p.Endpoint != "" || p.LastWake.Reason != "request" {
		t.Errorf("the permanent peer: %+v", p)
	}
	p = statusOf(t, d, fresh)
	if p.State != control.StateIdle || p.IdleIn != "" || p.LastWake != nil || p.LastError != "" || p.RetryAt != nil || p.Name != "" ||
		strings.Join(p.AllowedIPs, " ") != "10.98.1.0/24 10.98.2.0/24" {
		t.Errorf("the idle peer: %+v", p)
	}
}

func TestStatusFilter(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	add(t, n, far, "10.98.0.0/24")
	add(t, n, keyOf("Perm"), "10.98.1.0/24")
	options := optionsFor(t, n)
	options.Exclude = []string{"Perm"}
	d := manage(t, options)
	expectState(t, d, keyOf("Perm"), control.StateConnected)
	begin := time.Now()
	ping(t, n, n.There.IPv4)
	expectState(t, d, there(n), control.StateConnected)
	do(t, backend{d}.Sleep, there(n).String())
	later := time.Now().Add(time.Second)

	idle, permanent := []string{control.StateIdle}, []string{control.KindPermanent}
	for _, test := range []struct {
		filter control.Filter
		want   []lazy.Key
	}{
		{control.Filter{}, []lazy.Key{there(n), far, keyOf("Perm")}},
		{control.Filter{Kinds: idle}, []lazy.Key{there(n), far}},
		{control.Filter{Kinds: permanent}, []lazy.Key{keyOf("Perm")}},
		{control.Filter{Kinds: append(permanent, idle...)}, []lazy.Key{there(n), far, keyOf("Perm")}},
		{control.Filter{Kinds: []string{control.StateConnected}}, nil}, // a permanent peer is in no state
		{control.Filter{Peers: []string{"FarA", "10.98.0.7", n.There.IPv6.String()}}, []lazy.Key{there(n), far}},
		{control.Filter{Peers: []string{"FarA"}, Kinds: permanent}, nil},
		{control.Filter{Since: begin}, []lazy.Key{there(n), keyOf("Perm")}},
		{control.Filter{Since: later}, []lazy.Key{keyOf("Perm")}},
		{control.Filter{Since: later, Kinds: idle}, nil},
	} {
		status, err := backend{d}.Status(t.Context(), test.filter)
		if want := (control.Counts{Idle: 2, Permanent: 1}); err != nil || status.Counts != want {
			t.Errorf("%+v: %+v, %v", test.filter, status.Counts, err)
		}
		var got []string
		for _, p := range status.Peers {
			got = append(got, p.PublicKey)
		}
		want := make([]string, len(test.want))
		for i, key := range test.want {
			want[i] = key.String()
		}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%+v: %q, want %q", test.filter, got, want)
		}
	}
	if _, err := (backend{d}).Status(t.Context(), control.Filter{Peers: []string{"FarA", "nobody"}}); !errors.Is(err, control.ErrNoPeer) {
		t.Errorf("a filter for nobody: %v", err)
	}
}

// TestStatusSince has a peer fall asleep between two looks: that is a change.
func TestStatusSince(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	d := manage(t, optionsFor(t, n))
	do(t, backend{d}.Wake, there(n).String())
	begin := time.Now()
	changed := func() int {
		t.Helper()
		status, err := backend{d}.Status(t.Context(), control.Filter{Since: begin})
		if err != nil {
			t.Fatal(err)
		}
		return len(status.Peers)
	}
	do(t, backend{d}.Sleep, there(n).String())
	if changed() != 1 {
		t.Error("a peer that has fallen asleep since is left out")
	}
	begin = time.Now()
	if changed() != 0 {
		t.Error("a peer that has slept all the time is not left out")
	}
}

// TestStatusHasNoSecrets has a preshared key on a peer.
func TestStatusHasNoSecrets(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{Keepalive: every})
	preshared, err := wgtypes.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	set(t, n, there(n), wgtypes.PeerConfig{PresharedKey: &preshared})
	d := manage(t, optionsFor(t, n))
	status, err := backend{d}.Status(t.Context(), control.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(status)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []wgtypes.Key{preshared, n.Here.PrivateKey} {
		if strings.Contains(string(text), key.String()) {
			t.Errorf("a secret is in %s", text)
		}
	}
}

// TestStatusLeavesTheDeviceAlone has a wireguard-go that does not answer.
func TestStatusLeavesTheDeviceAlone(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{Userspace: true})
	d := manage(t, optionsFor(t, n))
	stall(t, n)
	if got := stateOf(t, d, there(n)); got != control.StateIdle {
		t.Errorf("the peer is %s", got)
	}
}

func TestSleep(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	add(t, n, far, "10.98.0.0/24")
	options := optionsFor(t, n)
	options.Exclude = []string{there(n).String()}
	d := manage(t, options)
	expectState(t, d, there(n), control.StateConnected)
	do(t, backend{d}.Wake, "FarA")
	expectKeepalive(t, n, far, every)

	r := do(t, backend{d}.Sleep, "FarA")[0]
	if r.State != control.StateIdle || r.Took != "" {
		t.Errorf("result %+v", r)
	}
	expectKeepalive(t, n, far, 0)
	do(t, backend{d}.Sleep, "FarA") // it sleeps already

	results, err := backend{d}.Sleep(t.Context(), []string{"FarA", n.There.IPv4.String()})
	if err != nil {
		t.Fatal(err)
	}
	if results[0].Error != "" || results[1].State != control.StateConnected || !strings.Contains(results[1].Error, "permanent") {
		t.Errorf("results %+v, of which the second is permanent", results)
	}
}

// TestNothingIsDone when one of the names is nobody's.
func TestNothingIsDone(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	add(t, n, far, "10.98.0.0/24")
	add(t, n, keyOf("Twin"), "10.98.1.0/24")
	other := keyOf("Twin")
	other[5] = 1
	add(t, n, other, "10.98.2.0/24")
	d := manage(t, optionsFor(t, n))
	b := backend{d}
	for verb, do := range map[string]func(context.Context, []string) ([]control.Result, error){
		"wake": b.Wake, "sleep": b.Sleep, "exclude": b.Exclude, "include": b.Include,
	} {
		for name, want := range map[string]error{"Nobody": control.ErrNoPeer, "Twin": control.ErrAmbiguous} {
			if results, err := do(t.Context(), []string{"FarA", name}); !errors.Is(err, want) || results != nil {
				t.Errorf("%s %s: %+v, %v; want %v", verb, name, results, err, want)
			}
		}
	}
	status, err := b.Status(t.Context(), control.Filter{})
	if want := (control.Counts{Idle: 4}); status.Counts != want || err != nil {
		t.Errorf("counts %+v, %v; want %+v", status.Counts, err, want)
	}
}

func TestExcludeAndInclude(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	add(t, n, far, "10.98.0.0/24")
	d := manage(t, optionsFor(t, n))
	b := backend{d}
	for _, step := range []struct {
		verb   func(context.Context, []string) ([]control.Result, error)
		names  []string
		counts control.Counts
	}{
		{b.Exclude, []string{"FarA"}, control.Counts{Idle: 1, Permanent: 1}},
		{b.Exclude, []string{"FarA"}, control.Counts{Idle: 1, Permanent: 1}},
		{b.Exclude, []string{n.There.IPv4.String()}, control.Counts{Permanent: 2}},
		{b.Include, []string{"FarA"}, control.Counts{Connected: 1, Permanent: 1}},
		{b.Include, []string{"FarA"}, control.Counts{Connected: 1, Permanent: 1}},
		{b.Sleep, []string{"FarA"}, control.Counts{Idle: 1, Permanent: 1}},
		{b.Include, []string{"FarA", n.There.IPv4.String()}, control.Counts{Idle: 1, Connected: 1}},
	} {
		do(t, step.verb, step.names...)
		status, err := b.Status(t.Context(), control.Filter{})
		if err != nil || status.Counts != step.counts {
			t.Errorf("%s: counts %+v, %v; want %+v", step.names, status.Counts, err, step.counts)
		}
		// Its permanent peers are open, or soon are.
		for _, p := range status.Peers {
			key, err := lazy.ParseKey(p.PublicKey)
			if err != nil {
				t.Fatal(err)
			}
			if p.Permanent {
				expectState(t, d, key, control.StateConnected)
			}
		}
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	d := manage(t, optionsFor(t, n))
	b := backend{d}
	ctx, cancel := context.WithCancel(t.Context())
	events, ended := make(chan control.Event, 100), make(chan error, 1)
	begun := make(chan struct{})
	go func() {
		begin := func() error { close(begun); return nil }
		ended <- b.Events(ctx, begin, func(e control.Event) error { events <- e; return nil })
	}()
	<-begun // It says nothing of what was before.
	do(t, b.Wake, there(n).String())
	do(t, b.Sleep, there(n).String())
	ping(t, n, n.There.IPv4)
	expectState(t, d, there(n), control.StateConnected)

	next := func(from, to, reason string) control.Event {
		for {
			e := <-events
			if e.From == from && e.To == to && e.Reason == reason {
				if e.Interface != n.Here.Name || e.PublicKey != there(n).String() || !recent(e.Time) {
					t.Errorf("event %+v", e)
				}
				return e
			}
		}
	}
	next(control.StateConnected, control.StateIdle, "")
	flow := "icmp " + n.Here.IPv4.String() + " > " + n.There.IPv4.String()
	for _, e := range []control.Event{
		next(control.StateIdle, control.StateConnecting, "egress"),
		next(control.StateConnecting, control.StateConnected, "egress"),
	} {
		if e.Flow != flow || e.UID == nil || *e.UID != 0 {
			t.Errorf("event %+v, want the flow %s of root's", e, flow)
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
}

// TestEventsEndWithTheirReader has a client that no longer takes them.
func TestEventsEndWithTheirReader(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	d := manage(t, optionsFor(t, n))
	b := backend{d}
	broken, ended := errors.New("broken pipe"), make(chan error, 1)
	go func() {
		ended <- b.Events(t.Context(), func() error { return nil }, func(control.Event) error { return broken })
	}()
	soon(t, "the end", func() bool {
		do(t, b.Wake, there(n).String())
		do(t, b.Sleep, there(n).String())
		return len(ended) > 0
	})
	if err := <-ended; !errors.Is(err, broken) {
		t.Errorf("error %v, want that of the reader", err)
	}
}
