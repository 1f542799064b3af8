// SPDX-License-Identifier: Apache-2.0

package control

import (
	"net/url"
	"time"
)

// Filter chooses peers of a [Status]: those that all of its fields let
// through. The zero value takes all.
type Filter struct {
	// Kinds are of [Kinds]; none: any.
	Kinds []string
	// Peers are named as for [Client.Wake]; none: all.
	Peers []string
	// Since leaves out peers that have been idle all the time since: nothing
	// of them has changed, unless somebody changed their configuration, or they
	// were evicted. Who looks at many peers every second spares the daemon and
	// itself the others.
	//
	// Times of packets are up to 21 ms early, so ask for what is new since 50
	// ms before the last time, and for all peers now and then.
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
