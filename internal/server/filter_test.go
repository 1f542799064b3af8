// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/lazybpf/lazybpf/pkg/control"
)

// TestFilter sends filters from a client to a backend.
func TestFilter(t *testing.T) {
	var got control.Filter
	path, _ := serve(t, fakeBackend{status: func(f control.Filter) (control.Status, error) {
		got = f
		if len(f.Peers) > 1 {
			return control.Status{}, fmt.Errorf("%w: %s", control.ErrNoPeer, f.Peers[1])
		}
		return control.Status{}, nil
	}})
	client := control.NewClient(path)
	for _, test := range []struct {
		filter control.Filter
		want   string // the error; empty: none
	}{
		{control.Filter{}, ""},
		{control.Filter{Kinds: []string{control.StateIdle, control.KindPermanent}}, ""},
		{control.Filter{Peers: []string{"a+/=& "}}, ""},
		{control.Filter{Since: time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC)}, ""},
		{control.Filter{Kinds: []string{control.StateConnected}, Peers: []string{"fd00::3"}, Since: clock}, ""},
		{control.Filter{Peers: []string{"a", "nobody"}}, "no such peer: nobody"},
	} {
		_, err := client.Status(t.Context(), test.filter)
		if !reflect.DeepEqual(got, test.filter) || textOf(err) != test.want {
			t.Errorf("sent %+v, got %+v, %v", test.filter, got, err)
		}
	}
	_, err := client.Status(t.Context(), control.Filter{Kinds: []string{"asleep"}})
	if want := `request: state "asleep": must be idle or connecting or connected or permanent`; textOf(err) != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	for query, want := range map[string]string{
		"since=yesterday": `since \"yesterday\": must be a time as 2006-01-02T15:04:05Z`,
		"states=idle":     `parameter \"states\": there are state, peer and since`,
		"peer=%zz":        `invalid URL escape \"%zz\"`,
	} {
		_, body := request(t, path, "GET", "/v1/status?"+query, "")
		if want := `{"error":"request: ` + want + `","code":"bad_request"}` + "\n"; body != want {
			t.Errorf("got  %s\nwant %s", body, want)
		}
	}
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
