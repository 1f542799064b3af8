// SPDX-License-Identifier: Apache-2.0

package view

import (
	"cmp"
	"time"

	"github.com/lazybpf/lazybpf/pkg/control"
)

// ShortKey is enough of a public key to tell it from others, and to name it in a command.
func ShortKey(key string) string {
	return key[:min(len(key), 8)]
}

// Label is what a peer is called where there is little room.
func Label(p *control.Peer) string {
	return cmp.Or(p.Name, ShortKey(p.PublicKey))
}

// The functions below are for cells of a table: as much as there is room for in width characters; 0 is no limit.

// Name is what a peer is called, or its key.
func Name(p *control.Peer, width int) string {
	if p.Name == "" && width > 0 {
		// The beginning of a key names the peer in a command; with an ellipsis it would not.
		return p.PublicKey[:min(len(p.PublicKey), width)]
	}
	return Cut(cmp.Or(p.Name, p.PublicKey), width)
}

// AllowedIPs is as many of them as there is room for, and how many more there are.
func AllowedIPs(p *control.Peer, width int) string { return prefixes(p.AllowedIPs, width) }

// Endpoint is a dash for a peer that has none.
func Endpoint(p *control.Peer, width int) string { return Cut(cmp.Or(p.Endpoint, "-"), width) }

// LastWake is why a peer woke, how long that took and whose packet it was.
func LastWake(p *control.Peer, width int) string {
	w := p.LastWake
	if w == nil {
		return "-"
	}
	text := w.Reason
	if w.Took != "" {
		text += " " + Took(w.Took)
	}
	if w.Flow != "" && (width == 0 || width-len(text) > leastFlow) {
		text += " " + w.Flow
	}
	return Cut(text, width)
}

// leastFlow is what of a flow says anything.
const leastFlow = len("tcp 192.0.2.1")

// LastActivity is the zero time for a peer that had none.
func LastActivity(p *control.Peer) time.Time {
	var last time.Time
	for _, t := range []*time.Time{p.LastTx, p.LastRx} {
		if t != nil && t.After(last) {
			last = *t
		}
	}
	return last
}

// ByActivity orders peers from the most recently active to those that never were.
func ByActivity(a, b *control.Peer) int {
	return cmp.Or(LastActivity(b).Compare(LastActivity(a)),
		cmp.Compare(Label(a), Label(b)), cmp.Compare(a.PublicKey, b.PublicKey))
}

// State is the word for a peer's state: a permanent one is called so unless something is wrong or under way.
func State(p *control.Peer) string {
	if p.State == control.StateConnected {
		return p.Kind()
	}
	return p.State
}

// Colour is that of a peer's line. Red is for errors alone: who sleeps is well.
func Colour(p *control.Peer) string {
	switch p.State {
	case control.StateIdle:
		return Dim
	case control.StateConnecting:
		return Yellow
	}
	return ""
}

// Sleep says when a peer will sleep, or that it does.
func Sleep(p *control.Peer) string {
	switch {
	case p.Permanent:
		return "never"
	case p.State == control.StateIdle:
		return "asleep"
	}
	if d, err := time.ParseDuration(p.IdleIn); err == nil {
		return "in " + span(d)
	}
	return "-"
}

// Failure says what kept a peer from being connected, and when it is tried again; empty if nothing did.
func Failure(p *control.Peer, now time.Time) string {
	if p.LastError == "" {
		return ""
	}
	text := Label(p) + " could not connect: " + p.LastError
	if p.RetryAt != nil {
		text += "; it may try again in " + max(0, p.RetryAt.Sub(now)).Round(time.Second).String()
	}
	return text
}
