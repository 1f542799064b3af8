// SPDX-License-Identifier: Apache-2.0

package top

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/lazybpf/lazybpf/internal/view"
	"github.com/lazybpf/lazybpf/pkg/control"
)

const (
	bold    = "\x1b[1m"
	reverse = "\x1b[7m"
)

// The screen has, from its top: the interface, the peers' titles and peers, the selected one, the latest news, the keys.
const (
	headLines = 4
	footLines = 5
)

// rows is how many peers there is room for.
func (m *model) rows() int { return max(1, m.height-headLines-1-footLines) }

func columns(now time.Time) []view.Column[*row] {
	peer := func(cell func(p *control.Peer, width int) string) func(*row, int) string {
		return func(r *row, width int) string { return cell(r.Peer, width) }
	}
	return []view.Column[*row]{
		{Title: "PEER", Least: 8, Wide: 12, Cell: peer(view.Name)},
		{Title: "STATE", Wide: 10, Cell: func(r *row, _ int) string { return view.State(r.Peer) }},
		{Title: "RX/s", Wide: 5, Right: true, Cell: func(r *row, _ int) string { return perSecond(r.rx) }},
		{Title: "TX/s", Wide: 5, Right: true, Cell: func(r *row, _ int) string { return perSecond(r.tx) }},
		{Title: "TRAFFIC", Rank: 2, Least: 8, Wide: 30, Cell: func(r *row, width int) string { return spark(r.past, width) }},
		{Title: "ACTIVITY", Wide: 8, Rank: 3, Cell: func(r *row, _ int) string { return view.Ago(now, view.LastActivity(r.Peer)) }},
		{Title: "SLEEP", Wide: 7, Rank: 1, Cell: func(r *row, _ int) string { return view.Sleep(r.Peer) }},
		{Title: "WAKES", Rank: 5, Right: true, Cell: func(r *row, _ int) string { return strconv.FormatUint(r.Wakes, 10) }},
		{Title: "LAST WAKE", Rank: 4, Least: 14, Wide: 40, Cell: peer(view.LastWake)},
		{Title: "ALLOWED IPS", Rank: 6, Least: 16, Cell: peer(view.AllowedIPs)},
	}
}

// perSecond is a dash for nothing, which most peers have.
func perSecond(rate float64) string {
	if rate < 0.5 {
		return "-"
	}
	return view.Size(uint64(rate + 0.5))
}

// View draws the screen. Of the peers it looks at those on it only.
func (m *model) View() tea.View {
	var lines []string
	if m.helping {
		lines = m.help()
	} else {
		lines = slices.Concat(m.head(), m.table(), m.foot())
	}
	v := tea.NewView(strings.Join(lines[:min(len(lines), m.height)], "\n"))
	v.AltScreen = true
	return v
}

// paint gives a line its colour, after it was cut to the screen's width.
func (m *model) paint(style, text string) string {
	return style + view.Cut(text, m.width) + view.Reset
}

func (m *model) head() []string {
	rates := fmt.Sprintf("rx %s/s  tx %s/s  ", view.Size(uint64(m.total.rx)), view.Size(uint64(m.total.tx)))
	rates = fmt.Sprintf("%-24s", rates) + spark(m.total.past, min(samples, max(0, m.width-24)))
	return []string{m.paint(bold, view.Title(m.status, m.now)), m.paint("", view.Counts(m.status.Counts)), m.paint("", rates), m.paint("", m.wakeLine())}
}

// wakeLine is why peers wake, and how fast.
func (m *model) wakeLine() string {
	text := "wakes " + view.Count(m.sum.wakes)
	var reasons []string
	for _, reason := range slices.Sorted(maps.Keys(m.wakes)) {
		reasons = append(reasons, reason+" "+view.Count(m.wakes[reason]))
	}
	if len(reasons) > 0 {
		text += "; while you look: " + strings.Join(reasons, ", ")
	}
	if m.sum.median > 0 {
		text += fmt.Sprintf("; median %s, longest %s", m.sum.median, m.sum.longest)
	}
	if m.sum.dropped > 0 {
		text += fmt.Sprintf("; %s packets dropped", view.Count(m.sum.dropped))
	}
	return text
}

func (m *model) table() []string {
	rows := m.shown[m.first:min(len(m.shown), m.first+m.rows())]
	table := view.Fit(columns(m.now), rows, m.width)
	lines := []string{m.paint(view.Dim, table.Titles())}
	for _, r := range rows {
		style, text := view.Colour(r.Peer), table.Row(r)
		if r.PublicKey == m.selected {
			style = reverse
			text += strings.Repeat(" ", max(0, m.width-view.Width(text)))
		}
		lines = append(lines, m.paint(style, text))
	}
	if len(rows) == 0 {
		lines = append(lines, m.paint(view.Dim, "no peer matches: esc shows all"))
	}
	for len(lines) < m.rows()+1 {
		lines = append(lines, "")
	}
	return lines
}

func (m *model) foot() []string {
	left, right := "── "+m.chosen()+" ", ""
	if len(m.shown) > 0 {
		right = fmt.Sprintf(" %s of %s ──", view.Count(m.cursor()+1), view.Count(len(m.shown)))
	}
	line := left + strings.Repeat("─", max(0, m.width-view.Width(left+right))) + right
	lines := []string{m.paint(view.Dim, line), "", ""}
	if r := m.peers[m.selected]; r != nil {
		lines[1] = m.paint("", strings.Join(slices.DeleteFunc([]string{r.Name, r.PublicKey, r.Endpoint, strings.Join(r.AllowedIPs, ", ")},
			func(word string) bool { return word == "" }), "  "))
		if failure := view.Failure(r.Peer, m.now); failure != "" {
			lines[2] = m.paint(view.Red, failure)
		} else if r.LastWake != nil {
			lines[2] = m.paint("", fmt.Sprintf("woke %s: %s%s", view.Ago(m.now, r.LastWake.At), view.LastWake(r.Peer, 0), user(r.LastWake)))
		}
	}
	if m.failure != "" {
		lines = append(lines, m.paint(view.Red, m.failure))
	} else {
		lines = append(lines, m.paint("", m.news))
	}
	return append(lines, m.lastLine())
}

func user(w *control.Wake) string {
	if w.UID == nil {
		return ""
	}
	return fmt.Sprintf(" uid %d", *w.UID)
}

// lastLine is what is typed, or else the answer to a request, or else the keys.
func (m *model) lastLine() string {
	switch {
	case m.typing:
		return m.paint(bold, "/"+m.filter+"█  enter keeps, esc shows all")
	case m.answer.failed:
		return m.paint(view.Red, m.answer.text)
	case m.answer.text != "":
		return m.paint(bold, m.answer.text)
	}
	return m.paint(view.Dim, "q quit  ? help  o order  f state  / find  w wake  s sleep  x exclude  i include")
}

// chosen is which peers are shown, and in what order.
func (m *model) chosen() string {
	text := "by " + orders[m.order].name
	if m.backwards {
		text += " reversed"
	}
	if m.kind != "" {
		text += ", " + m.kind
	}
	if m.filter != "" {
		text += ", with " + m.filter
	}
	return text
}

func (m *model) help() []string {
	lines := []string{m.paint(bold, "lazybpf top: keys"), ""}
	for _, b := range bindings {
		lines = append(lines, m.paint("", fmt.Sprintf("  %-14s %s", strings.Join(b.keys, ", "), b.help)))
	}
	return append(lines, "", m.paint(view.Dim, "An idle peer is asleep and well. Any key goes back."))
}
