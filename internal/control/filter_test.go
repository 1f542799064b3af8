// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"
)

func TestFilter(t *testing.T) {
	path, _ := serve(t, fakeBackend{
		status: func(context.Context) (Status, error) {
			return Status{Counts: Counts{Idle: 2, Connected: 1, Permanent: 1}, Peers: []Peer{
				{PublicKey: "a", State: StateIdle, LastRx: new(start.Add(-time.Second)), LastWake: &Wake{At: start.Add(-time.Minute)}},
				{PublicKey: "b", State: StateIdle, LastTx: new(start)},
				{PublicKey: "c", State: StateConnected},
				{PublicKey: "d", State: StateConnected, Permanent: true},
			}}, nil
		},
		keys: map[string]string{"10.0.0.1": "a", "a": "a", "fd00::3": "c", "a+/=& ": "d"},
	})
	for _, test := range []struct {
		filter Filter
		want   []string
	}{
		{Filter{}, []string{"a", "b", "c", "d"}},
		{Filter{Kinds: []string{StateIdle}}, []string{"a", "b"}},
		{Filter{Kinds: []string{StateConnected}}, []string{"c"}},
		{Filter{Kinds: []string{StateConnecting}}, nil},
		{Filter{Kinds: []string{KindPermanent, StateIdle}}, []string{"a", "b", "d"}},
		{Filter{Peers: []string{"10.0.0.1", "fd00::3", "a"}}, []string{"a", "c"}},
		{Filter{Peers: []string{"a+/=& "}}, []string{"d"}},
		{Filter{Since: start.Add(-time.Second)}, []string{"a", "b", "c", "d"}},
		{Filter{Since: start.In(time.FixedZone("", 3600))}, []string{"b", "c", "d"}},
		{Filter{Since: start.Add(1)}, []string{"c", "d"}},
		{Filter{Since: start.Add(1), Kinds: []string{StateIdle}}, nil},
		{Filter{Kinds: []string{StateConnected}, Peers: []string{"a", "fd00::3"}}, []string{"c"}},
	} {
		client := NewClient(path)
		client.Filter = test.filter
		status, err := client.Status(t.Context())
		var got []string
		for _, p := range status.Peers {
			got = append(got, p.PublicKey)
		}
		if err != nil || !slices.Equal(got, test.want) || status.Counts.Idle != 2 {
			t.Errorf("%+v: %q, %+v, %v, want %q", test.filter, got, status.Counts, err, test.want)
		}
	}
	client := NewClient(path)
	client.Filter.Peers = []string{"a", "nobody"}
	if _, err := client.Status(t.Context()); !errors.Is(err, ErrNoPeer) {
		t.Errorf("a filter for nobody: %v", err)
	}
	client.Filter = Filter{Kinds: []string{"asleep"}}
	if _, err := client.Status(t.Context()); err == nil ||
		err.Error() != `request: state "asleep": must be idle or connecting or connected or permanent` {
		t.Errorf("a filter for no state there is: %v", err)
	}
}
