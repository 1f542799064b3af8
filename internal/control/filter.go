// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Filter chooses peers of a [Status]: those of one of the kinds that are also among the named. The zero value takes all.
type Filter struct {
	Kinds []string // of [Kinds]; none: any
	Peers []string // named as for [Backend]; none: all
}

// query is how a filter crosses the socket, from its question mark; empty for one that takes all.
func (f Filter) query() string {
	values := url.Values{"state": f.Kinds, "peer": f.Peers}.Encode()
	if values == "" {
		return ""
	}
	return "?" + values
}

func parseFilter(values url.Values) (Filter, error) {
	f := Filter{Kinds: values["state"], Peers: values["peer"]}
	for _, kind := range f.Kinds {
		if !slices.Contains(Kinds, kind) {
			return Filter{}, fmt.Errorf("state %q: must be %s", kind, strings.Join(Kinds, " or "))
		}
	}
	return f, nil
}

func filteredStatus(ctx context.Context, b Backend, f Filter) (Status, error) {
	keys, err := b.Resolve(ctx, f.Peers)
	if err != nil {
		return Status{}, err
	}
	status, err := b.Status(ctx)
	status.Peers = slices.DeleteFunc(status.Peers, func(p Peer) bool {
		return len(f.Kinds) > 0 && !slices.Contains(f.Kinds, p.Kind()) ||
			len(f.Peers) > 0 && !slices.Contains(keys, p.PublicKey)
	})
	return status, err
}
