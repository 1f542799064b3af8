// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lazybpf/lazybpf/pkg/control"
)

// Options say how to show a [control.Status].
type Options struct {
	Now    time.Time
	Width  int // of a line, in characters; 0: as long as it takes, with nothing cut
	Peers  int // how many at most; 0: all
	Colour bool
}

func statusColumns(now time.Time) []Column[*control.Peer] {
	return []Column[*control.Peer]{
		{Title: "PEER", Least: 8, Cell: Name},
		{Title: "STATE", Cell: func(p *control.Peer, _ int) string { return State(p) }},
		{Title: "ALLOWED IPS", Rank: 1, Least: 16, Cell: AllowedIPs},
		{Title: "ENDPOINT", Rank: 7, Least: 15, Cell: Endpoint},
		{Title: "ACTIVITY", Cell: func(p *control.Peer, _ int) string { return Ago(now, LastActivity(p)) }},
		{Title: "SLEEP", Rank: 2, Cell: func(p *control.Peer, _ int) string { return Sleep(p) }},
		{Title: "RX", Rank: 4, Right: true, Cell: func(p *control.Peer, _ int) string { return Size(p.RxBytes) }},
		{Title: "TX", Rank: 3, Right: true, Cell: func(p *control.Peer, _ int) string { return Size(p.TxBytes) }},
		{Title: "WAKES", Rank: 5, Right: true, Cell: func(p *control.Peer, _ int) string { return strconv.FormatUint(p.Wakes, 10) }},
		{Title: "LAST WAKE", Rank: 6, Least: 14, Cell: LastWake},
	}
}

// Statuses is the [Status] of several interfaces.
func Statuses(all []control.Status, o Options) string {
	texts := make([]string, len(all))
	for i, s := range all {
		texts[i] = Status(s, o)
	}
	return strings.Join(texts, "\n")
}

// line is one of a text, with its colour; empty: the terminal's own.
type line struct{ text, colour string }

// Status is what `lazybpf status` shows of an interface: how many peers do what, then the peers, the most recently active
// first, then what went wrong with them.
func Status(s control.Status, o Options) string {
	lines := []line{
		{text: Title(s, o.Now)},
		{text: Counts(s.Counts)},
	}
	c := s.Counts
	if all := c.Idle + c.Connecting + c.Connected + c.Permanent; len(s.Peers) < all {
		lines = append(lines, line{text: fmt.Sprintf("%s of these %s match", Count(len(s.Peers)), Count(all))})
	}
	if len(s.Peers) > 0 {
		lines = append(lines, line{})
		lines = append(lines, peerLines(s.Peers, o)...)
	}
	var b strings.Builder
	for _, l := range lines {
		for _, text := range Wrap(l.text, o.Width) {
			if o.Colour && l.colour != "" {
				text = l.colour + text + Reset
			}
			b.WriteString(text + "\n")
		}
	}
	return b.String()
}

// Title is a line of how it is with the interface.
func Title(s control.Status, now time.Time) string {
	if s.Attach == "" {
		return fmt.Sprintf("%s: interface is gone (%s); its peers are managed again once it is there", s.Interface, Ago(now, s.Since))
	}
	return fmt.Sprintf("%s: attached by %s %s; peers sleep after %s without traffic",
		s.Interface, s.Attach, Ago(now, s.Since), TrimDuration(s.InactivityThreshold))
}

// Counts is a line of how many peers do what.
func Counts(c control.Counts) string {
	return fmt.Sprintf("%s idle (asleep), %s connecting, %s connected, %s permanent",
		Count(c.Idle), Count(c.Connecting), Count(c.Connected), Count(c.Permanent))
}

func peerLines(all []control.Peer, o Options) []line {
	peers := make([]*control.Peer, len(all))
	for i := range all {
		peers[i] = &all[i]
	}
	slices.SortFunc(peers, ByActivity)
	hidden := 0
	if o.Peers > 0 && len(peers) > o.Peers {
		hidden = len(peers) - o.Peers
		peers = peers[:o.Peers]
	}
	table := Fit(statusColumns(o.Now), peers, o.Width)
	lines := []line{{text: table.Titles()}}
	for _, p := range peers {
		lines = append(lines, line{table.Row(p), Colour(p)})
	}
	if hidden > 0 {
		lines = append(lines, line{fmt.Sprintf("… %s more: --all shows them, --state and --peer choose", Count(hidden)), Dim})
	}
	for _, p := range peers {
		if text := Failure(p, o.Now); text != "" {
			lines = append(lines, line{text, Red})
		}
	}
	return lines
}
