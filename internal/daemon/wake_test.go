// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lazybpf/lazybpf/internal/config"
	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/pkg/control"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

func TestWake(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	add(t, n, far, "10.98.0.0/24")
	d := manage(t, optionsFor(t, n))
	// Named twice, it is woken once.
	results := do(t, backend{d}.Wake, n.There.IPv6.String(), "FarA", far.String())
	for i, key := range []lazy.Key{there(n), far, far} {
		r := results[i]
		if took, err := time.ParseDuration(r.Took); r.PublicKey != key.String() || r.State != control.StateConnected || err != nil || took < 0 {
			t.Errorf("result %+v", r)
		}
		if p := statusOf(t, d, key); p.Wakes != 1 || p.LastWake.Reason != "request" {
			t.Errorf("after waking: %+v", p)
		}
	}
	expectKeepalive(t, n, far, every)

	// Who is awake stays so, which takes no time.
	if r := do(t, backend{d}.Wake, "FarA")[0]; r.State != control.StateConnected || r.Took != "" {
		t.Errorf("result %+v for a peer that was awake", r)
	}
	if got := statusOf(t, d, far).Wakes; got != 1 {
		t.Errorf("%d wakes", got)
	}
}

// TestWakeWaits has a wireguard-go that takes its time.
func TestWakeWaits(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{Userspace: true})
	add(t, n, far, "10.98.0.0/24")
	d := manage(t, optionsFor(t, n))
	release := stall(t, n)
	woken := make(chan []control.Result, 1)
	go func() {
		results, err := backend{d}.Wake(t.Context(), []string{"FarA"})
		if err != nil {
			t.Error(err)
		}
		woken <- results
	}()
	expectState(t, d, far, control.StateConnecting)
	const stalled = 50 * time.Millisecond
	select {
	case results := <-woken:
		t.Errorf("returned %+v while the peer was connecting", results)
	case <-time.After(stalled):
	}
	status, err := backend{d}.Status(t.Context(), control.Filter{})
	if want := (control.Counts{Idle: 1, Connecting: 1}); status.Counts != want || err != nil {
		t.Errorf("counts %+v, %v; want %+v", status.Counts, err, want)
	}
	if r, err := (backend{d}).Sleep(t.Context(), []string{"FarA"}); err != nil || !strings.Contains(r[0].Error, "connecting") {
		t.Errorf("put to sleep while connecting: %+v, %v", r, err)
	}
	release()
	r := (<-woken)[0]
	if took, err := time.ParseDuration(r.Took); r.State != control.StateConnected || r.Error != "" || err != nil || took < stalled {
		t.Errorf("result %+v, which took at least %s", r, stalled)
	}
}

// TestWakeWaitsForAPacketsWake has the peer connecting already.
func TestWakeWaitsForAPacketsWake(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{Userspace: true, Keepalive: every})
	options := optionsFor(t, n)
	// What has an endpoint to be set is not connected before.
	options.Policy.Peers = []config.Peer{{Key: there(n), Wake: lazy.WakePass, Endpoint: n.There.Endpoint.String()}}
	d := manage(t, options)
	do(t, backend{d}.Sleep, there(n).String())
	expectKeepalive(t, n, there(n), 0)
	release := stall(t, n)
	ping(t, n, n.There.IPv4)
	expectState(t, d, there(n), control.StateConnecting)
	time.AfterFunc(10*time.Millisecond, release)
	if r := do(t, backend{d}.Wake, n.There.IPv4.String())[0]; r.State != control.StateConnected {
		t.Errorf("result %+v", r)
	}
	if w := statusOf(t, d, there(n)).LastWake; w.Reason != "egress" {
		t.Errorf("woken by %s", w.Reason)
	}
}

// TestWakeFails has a wireguard-go that refuses, again and again: however fast, a failure is told.
func TestWakeFails(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{Userspace: true})
	add(t, n, far, "10.98.0.0/24")
	d := manage(t, optionsFor(t, n))
	var works atomic.Bool
	intercept(t, n, works.Load)
	for range 50 {
		results, err := backend{d}.Wake(t.Context(), []string{"FarA", n.There.IPv4.String()})
		if err != nil {
			t.Fatal(err)
		}
		if r := results[0]; r.State != control.StateIdle || !strings.HasPrefix(r.Error, "configure "+n.Here.Name) || r.Took != "" {
			t.Fatalf("result %+v, want the error of the device", r)
		}
		// The other has no keepalive, so nothing is asked of the device.
		if r := results[1]; r.State != control.StateConnected || r.Error != "" {
			t.Fatalf("result %+v, want connected", r)
		}
	}
	p := statusOf(t, d, far)
	if !strings.HasPrefix(p.LastError, "configure "+n.Here.Name) || p.RetryAt == nil || !p.RetryAt.After(time.Now()) || p.Wakes != 0 {
		t.Errorf("status of a peer that could not be opened: %+v", p)
	}
	works.Store(true)
	do(t, backend{d}.Wake, "FarA")
	if p := statusOf(t, d, far); p.State != control.StateConnected || p.LastError != "" || p.RetryAt != nil || p.Wakes != 1 {
		t.Errorf("status of a peer that was opened at last: %+v", p)
	}
}

// TestWakeOfOneThatGoes has the peer removed from the interface while it connects.
func TestWakeOfOneThatGoes(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{Userspace: true})
	add(t, n, far, "10.98.0.0/24")
	d := manage(t, optionsFor(t, n))
	stall(t, n)
	woken := make(chan []control.Result, 1)
	go func() {
		results, err := backend{d}.Wake(t.Context(), []string{"FarA"})
		if err != nil {
			t.Error(err)
		}
		woken <- results
	}()
	expectState(t, d, far, control.StateConnecting)
	if err := sessionOf(t, d).removePeers([]lazy.Key{far}); err != nil {
		t.Fatal(err)
	}
	if r := (<-woken)[0]; r.State != "" || r.Error != "it was removed from the interface" {
		t.Errorf("result %+v", r)
	}
}

// TestWakeGivenUp has the client leave.
func TestWakeGivenUp(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{Userspace: true})
	add(t, n, far, "10.98.0.0/24")
	d := manage(t, optionsFor(t, n))
	stall(t, n)
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := backend{d}.Wake(ctx, []string{"FarA"})
		left <- err
	}()
	expectState(t, d, far, control.StateConnecting)
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
}
