// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Filter chooses peers of a [Status]: those that all of its fields let through. The zero value takes all.
type Filter struct {
	Kinds []string // of [Kinds]; none: any
	Peers []string // named as for [Backend]; none: all
	// Since leaves out peers that have been idle all the time since: nothing of them has changed, unless somebody changed
	// their configuration. Who looks at many peers every second spares the daemon and itself the others.
	Since time.Time
}

// query is how a filter crosses the socket, from its question mark; empty for one that takes all.
func (f Filter) query() string {
	values := url.Values{"state": f.Kinds, "peer": f.Peers}
	if !f.Since.IsZero() {
		values.Set("since", f.Since.Format(time.RFC3339Nano))
	}
	if text := values.Encode(); text != "" {
		return "?" + text
	}
	return ""
}

func parseFilter(values url.Values) (Filter, error) {
	f := Filter{Kinds: values["state"], Peers: values["peer"]}
	for _, kind := range f.Kinds {
		if !slices.Contains(Kinds, kind) {
			return Filter{}, fmt.Errorf("state %q: must be %s", kind, strings.Join(Kinds, " or "))
		}
	}
	if text := values.Get("since"); text != "" {
		var err error
		if f.Since, err = time.Parse(time.RFC3339Nano, text); err != nil {
			return Filter{}, fmt.Errorf("since %q: must be a time as 2006-01-02T15:04:05Z", text)
		}
	}
	return f, nil
}

func filteredStatus(ctx context.Context, b Backend, f Filter) (Status, error) {
	var keys []string
	if len(f.Peers) > 0 { // without, a daemon whose interface is gone has a status, too
		var err error
		if keys, err = b.Resolve(ctx, f.Peers); err != nil {
			return Status{}, err
		}
	}
	status, err := b.Status(ctx)
	status.Peers = slices.DeleteFunc(status.Peers, func(p Peer) bool {
		return len(f.Kinds) > 0 && !slices.Contains(f.Kinds, p.Kind()) ||
			len(f.Peers) > 0 && !slices.Contains(keys, p.PublicKey) ||
			!f.Since.IsZero() && p.idleSince(f.Since)
	})
	return status, err
}

// idleSince says that a peer was idle at a time and ever since, and that not even a packet has passed.
func (p *Peer) idleSince(since time.Time) bool {
	quiet := func(t *time.Time) bool { return t == nil || t.Before(since) }
	return p.State == StateIdle && quiet(p.LastTx) && quiet(p.LastRx) && (p.LastWake == nil || quiet(&p.LastWake.At))
}
