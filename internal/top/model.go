// SPDX-License-Identifier: Apache-2.0

package top

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/lazybpf/lazybpf/internal/view"
	"github.com/lazybpf/lazybpf/pkg/control"
)

// model is all that is known and shown. It has no clock: now is the time of the last status.
type model struct {
	act action

	status  control.Status
	now     time.Time
	failure string // why there is no newer status
	all     []*row // in order
	peers   map[string]*row
	total   traffic
	sum     sum
	wakes   map[string]int // by reason, while somebody looks

	// What a person chose.
	order     int // of orders
	backwards bool
	kind      string // of control.Kinds; empty: all
	filter    string
	typing    bool // the filter
	helping   bool
	selected  string // its public key; empty: no peer is shown

	shown  []*row // those of all that were chosen
	first  int    // of shown on the screen
	width  int
	height int
	news   string // the latest event
	answer answer // to the last request, until the next key
}

// row is a peer with what is remembered of it.
type row struct {
	*control.Peer
	traffic
	next *control.Peer // while a status is taken; nil: it has nothing new
}

// answer is what became of a request.
type answer struct {
	text   string
	failed bool
}

// orders are how peers can be sorted. Those that are equal are sorted by activity.
var orders = []struct {
	name    string
	compare func(a, b *row) int
}{
	{"activity", func(_, _ *row) int { return 0 }},
	{"traffic", func(a, b *row) int { return cmp.Compare(b.rx+b.tx, a.rx+a.tx) }},
	{"state", func(a, b *row) int { return cmp.Compare(rank(a), rank(b)) }},
	{"wakes", func(a, b *row) int { return cmp.Compare(b.Wakes, a.Wakes) }},
	{"latency", func(a, b *row) int { return cmp.Compare(tookOf(b.Peer), tookOf(a.Peer)) }},
	{"name", func(a, b *row) int { return cmp.Compare(view.Label(a.Peer), view.Label(b.Peer)) }},
}

// byActivity goes by whole seconds: peers that all talk now do not change places all the time.
func (m *model) byActivity(a, b *row) int {
	seconds := func(r *row) time.Duration { return max(0, m.now.Sub(view.LastActivity(r.Peer))) / time.Second }
	return cmp.Or(cmp.Compare(seconds(a), seconds(b)), cmp.Compare(view.Label(a.Peer), view.Label(b.Peer)),
		cmp.Compare(a.PublicKey, b.PublicKey))
}

// rank puts those first that somebody may want to look at.
func rank(r *row) int {
	if r.LastError != "" {
		return -1
	}
	return slices.Index([]string{control.StateConnecting, control.StateConnected, control.KindPermanent, control.StateIdle}, r.Kind())
}

func newModel(act action) *model {
	return &model{act: act, peers: map[string]*row{}, wakes: map[string]int{}, width: 80, height: 24}
}

// Init has nothing to begin with: messages come by themselves.
func (m *model) Init() tea.Cmd { return nil }

// Update takes one message, and returns what is to be done.
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	var cmd tea.Cmd
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
		m.scroll()
	case statusMsg:
		m.take(msg)
	case eventsMsg:
		m.happened(msg)
	case doneMsg:
		m.answer = m.report(msg)
	case tea.KeyPressMsg:
		m.answer = answer{}
		cmd = m.press(msg)
	case tea.PasteMsg:
		if m.typing {
			m.setFilter(m.filter + strings.TrimSpace(msg.Content))
		}
	}
	return m, cmd
}

// take takes a status.
func (m *model) take(msg statusMsg) {
	if msg.err != nil {
		m.failure = msg.err.Error()
		return
	}
	m.failure = ""
	since := msg.at.Sub(m.now)
	if m.now.IsZero() || !msg.status.Since.Equal(m.status.Since) { // the first of this daemon
		since = 0
	}
	m.now = msg.at
	for i := range msg.status.Peers {
		p := &msg.status.Peers[i]
		m.know(p).next = p
	}
	m.status = msg.status
	m.status.Peers = nil
	if !msg.part {
		m.forget(func(r *row) bool { return r.next == nil })
	}
	var rx, tx uint64
	for _, r := range m.all {
		next := cmp.Or(r.next, r.Peer)
		moreRx, moreTx := counted(r.RxBytes, next.RxBytes), counted(r.TxBytes, next.TxBytes)
		r.add(moreRx, moreTx, since)
		rx += moreRx
		tx += moreTx
		r.Peer, r.next = next, nil
	}
	m.total.add(rx, tx, since)
	m.sum = sumOf(m.all)
	m.arrange()
}

// know returns the row of a peer. What a new one has counted so far is not of this second.
func (m *model) know(p *control.Peer) *row {
	r := m.peers[p.PublicKey]
	if r == nil {
		r = &row{Peer: p}
		m.peers[p.PublicKey] = r
		m.all = append(m.all, r)
	}
	return r
}

func (m *model) forget(gone func(*row) bool) {
	m.all = slices.DeleteFunc(m.all, func(r *row) bool {
		if !gone(r) {
			return false
		}
		delete(m.peers, r.PublicKey)
		return true
	})
}

// happened brings states up to date between two statuses.
func (m *model) happened(events eventsMsg) {
	for _, e := range events {
		if e.From == control.StateIdle && e.To == control.StateConnecting {
			m.wakes[e.Reason]++
		}
		if e.To == "" {
			m.forget(func(r *row) bool { return r.PublicKey == e.PublicKey })
			continue
		}
		p := m.know(&control.Peer{PublicKey: e.PublicKey}).Peer
		p.State = e.To
		if e.To != control.StateConnected {
			p.IdleIn = ""
		}
	}
	m.news = m.describe(events[len(events)-1])
	m.arrange()
}

func (m *model) describe(e control.Event) string {
	text := fmt.Sprintf("%s  %s  %s -> %s", e.Time.Local().Format("15:04:05"), m.label(e.PublicKey), cmp.Or(e.From, "new"), cmp.Or(e.To, "gone"))
	if e.Reason != "" && e.To != control.StateIdle {
		text += "  " + e.Reason
	}
	if e.Flow != "" && e.To != control.StateIdle {
		text += "  " + e.Flow
	}
	return text
}

// label is what a peer is called, which may be gone by now.
func (m *model) label(key string) string {
	if r, ok := m.peers[key]; ok {
		return view.Label(r.Peer)
	}
	return view.ShortKey(key)
}

func (m *model) report(done doneMsg) answer {
	r := done.result
	text := fmt.Sprintf("%s %s: ", done.verb, m.label(r.PublicKey))
	switch {
	case done.err != nil:
		return answer{done.verb + ": " + done.err.Error(), true}
	case r.Error != "":
		return answer{text + r.Error, true}
	case r.Took != "":
		return answer{text + r.State + ", took " + view.Took(r.Took), false}
	}
	return answer{text + r.State, false}
}

// arrange chooses and sorts what is shown, and keeps to the peer that is selected.
func (m *model) arrange() {
	compare := orders[m.order].compare
	slices.SortFunc(m.all, func(a, b *row) int { // nearly sorted already, by the last time
		n := compare(a, b)
		if n == 0 {
			n = m.byActivity(a, b)
		}
		if m.backwards {
			n = -n
		}
		return n
	})
	m.shown = m.shown[:0]
	for _, r := range m.all {
		if m.wanted(r) {
			m.shown = append(m.shown, r)
		}
	}
	m.scroll()
}

func (m *model) wanted(r *row) bool {
	if m.kind != "" && r.Kind() != m.kind {
		return false
	}
	if m.filter == "" || strings.HasPrefix(r.PublicKey, m.filter) || strings.Contains(r.Endpoint, m.filter) ||
		strings.Contains(strings.ToLower(r.Name), strings.ToLower(m.filter)) {
		return true
	}
	return slices.ContainsFunc(r.AllowedIPs, func(prefix string) bool { return strings.Contains(prefix, m.filter) })
}

// cursor is the index of the selected peer.
func (m *model) cursor() int {
	return max(0, slices.IndexFunc(m.shown, func(r *row) bool { return r.PublicKey == m.selected }))
}

// scroll selects a peer if none is, and brings it onto the screen.
func (m *model) scroll() {
	if len(m.shown) == 0 {
		m.first, m.selected = 0, ""
		return
	}
	at := m.cursor()
	m.selected = m.shown[at].PublicKey
	rows := m.rows()
	m.first = min(max(m.first, at-rows+1), at)
	m.first = max(0, min(m.first, len(m.shown)-rows))
}

// move selects another peer, so many further down.
func (m *model) move(by int) {
	if len(m.shown) > 0 {
		m.selected = m.shown[min(max(0, m.cursor()+by), len(m.shown)-1)].PublicKey
	}
	m.scroll()
}

func (m *model) setFilter(text string) {
	m.filter = text
	m.arrange()
}
