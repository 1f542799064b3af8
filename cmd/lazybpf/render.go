// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lazybpf/lazybpf/internal/control"
)

// Widest cells, so that a line of the table fits into 80 columns.
const (
	maxLabel    = 10
	maxPrefixes = 16
)

var statusColumns = []column{
	{title: "PEER"}, {title: "STATE"}, {title: "ALLOWED IPS"}, {title: "ACTIVITY"}, {title: "IDLE IN"},
	{title: "RX", right: true}, {title: "TX", right: true}, {title: "WAKES", right: true},
}

// writeTables writes each interface's table once.
func writeTables(w io.Writer, statuses []control.Status) error {
	_, err := io.WriteString(w, renderTables(statuses, time.Now(), useColour(w)))
	return err
}

// redrawTables replaces what a terminal shows; anything else gets one text after another.
func redrawTables(w io.Writer, statuses []control.Status) error {
	text := renderTables(statuses, time.Now(), useColour(w)) + "\n"
	if rows, ok := terminalRows(w); ok {
		text = clearScreen + crop(text, rows)
	}
	_, err := io.WriteString(w, text)
	return err
}

func renderTables(statuses []control.Status, now time.Time, colour bool) string {
	tables := make([]string, len(statuses))
	for i, s := range statuses {
		tables[i] = renderStatus(s, now, colour)
	}
	return strings.Join(tables, "\n")
}

func renderStatus(s control.Status, now time.Time, colour bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: attached by %s %s; peers sleep after %s without traffic\n",
		s.Interface, s.Attach, ago(now, s.Since), s.InactivityThreshold)
	fmt.Fprintf(&b, "%d idle, %d connecting, %d connected, %d permanent\n",
		s.Counts.Idle, s.Counts.Connecting, s.Counts.Connected, s.Counts.Permanent)
	if len(s.Peers) == 0 {
		return b.String()
	}
	b.WriteByte('\n')

	peers := slices.SortedFunc(slices.Values(s.Peers), func(a, b control.Peer) int {
		return cmp.Or(lastActivity(b).Compare(lastActivity(a)), cmp.Compare(label(a), label(b)))
	})
	rows := make([]row, len(peers))
	for i, p := range peers {
		rows[i] = peerRow(p, now)
	}
	writeTable(&b, statusColumns, rows, colour)
	for _, p := range peers {
		if p.RetryAt != nil {
			wait := max(0, p.RetryAt.Sub(now)).Round(time.Second)
			fmt.Fprintf(&b, "%s could not connect: %s; it may try again in %s\n", label(p), p.LastError, wait)
		}
	}
	return b.String()
}

func peerRow(p control.Peer, now time.Time) row {
	state, idleIn, colour := p.State, cmp.Or(p.IdleIn, "-"), ""
	switch p.State {
	case control.StateIdle:
		colour = dim
	case control.StateConnecting:
		colour = yellow
	case control.StateConnected:
		if p.Permanent {
			state = "permanent"
		}
	}
	if p.Permanent {
		idleIn = "never"
	}
	return row{colour: colour, cells: []string{
		cut(label(p), maxLabel), state, shortPrefixes(p.AllowedIPs, maxPrefixes), ago(now, lastActivity(p)), idleIn,
		size(p.RxBytes), size(p.TxBytes), strconv.FormatUint(p.Wakes, 10),
	}}
}

// lastActivity is the zero time for a peer that had none.
func lastActivity(p control.Peer) time.Time {
	var last time.Time
	for _, t := range []*time.Time{p.LastTx, p.LastRx} {
		if t != nil && t.After(last) {
			last = *t
		}
	}
	return last
}

func label(p control.Peer) string {
	return cmp.Or(p.Name, shortKey(p.PublicKey))
}
