// SPDX-License-Identifier: Apache-2.0

package top

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	tea "charm.land/bubbletea/v2"

	"github.com/lazybpf/lazybpf/internal/vt"
	"github.com/lazybpf/lazybpf/pkg/control"
)

var update = flag.Bool("update", false, "write what is shown to testdata instead of comparing")

var clock = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func at(d time.Duration) *time.Time { return new(clock.Add(d)) }

// key is what a person's keys are to a model: characters, or the name of one key.
func key(name string) tea.KeyPressMsg {
	codes := map[string]rune{"enter": tea.KeyEnter, "esc": tea.KeyEscape, "backspace": tea.KeyBackspace, "up": tea.KeyUp,
		"down": tea.KeyDown, "pgup": tea.KeyPgUp, "pgdown": tea.KeyPgDown, "home": tea.KeyHome, "end": tea.KeyEnd}
	if code, ok := codes[name]; ok {
		return tea.KeyPressMsg{Code: code}
	}
	if name == "ctrl+c" {
		return tea.KeyPressMsg{Code: 'c', Mod: tea.ModCtrl}
	}
	return tea.KeyPressMsg{Code: rune(name[0]), Text: name}
}

// screen is a model that a test presses keys of and looks at.
type screen struct {
	*model
	t *testing.T
}

// asked is what a model wants done, instead of doing it.
type asked struct{ verb, key string }

func newScreen(t *testing.T, peers ...control.Peer) screen {
	s := screen{newModel(func(verb, key string) tea.Cmd { return func() tea.Msg { return asked{verb, key} } }), t}
	s.take(s.at(0, peers...))
	return s
}

// at is a status of these peers, some time after the first.
func (s screen) at(after time.Duration, peers ...control.Peer) statusMsg {
	status := control.Status{Interface: "wg0", Attach: "tcx", InactivityThreshold: "15m0s", Since: *at(-3 * time.Hour)}
	status.Peers = slices.Clone(peers)
	for _, p := range peers {
		switch p.Kind() {
		case control.StateIdle:
			status.Counts.Idle++
		case control.StateConnecting:
			status.Counts.Connecting++
		case control.StateConnected:
			status.Counts.Connected++
		case control.KindPermanent:
			status.Counts.Permanent++
		}
	}
	return statusMsg{status: status, at: clock.Add(after)}
}

// press returns what the last key asks for.
func (s screen) press(keys ...string) (msg tea.Msg) {
	s.t.Helper()
	for _, name := range keys {
		_, cmd := s.Update(key(name))
		msg = nil
		if cmd != nil {
			msg = cmd()
		}
	}
	return msg
}

// text is what a person sees.
func (s screen) text() string {
	s.t.Helper()
	terminal := vt.New(s.width, s.height)
	content := s.View().Content
	if n := strings.Count(content, "\n") + 1; n > s.height {
		s.t.Errorf("%d lines on a screen of %d", n, s.height)
	}
	_, _ = terminal.Write([]byte(strings.ReplaceAll(content, "\n", "\r\n")))
	return terminal.String()
}

func (s screen) order() (names string) {
	for _, r := range s.shown {
		names += r.Name
	}
	return names
}

// some has a peer of each kind. Their names are one letter, the first that of the most recently active.
func some() []control.Peer {
	return []control.Peer{
		{Name: "d", PublicKey: "ZGRk", State: control.StateIdle, AllowedIPs: []string{"10.0.0.4/32"}},
		{Name: "a", PublicKey: "YWFh", State: control.StateConnected, AllowedIPs: []string{"10.0.0.1/32", "fd00::1/128"},
			Endpoint: "192.0.2.1:51820", LastTx: at(-time.Second), RxBytes: 1 << 20, TxBytes: 1 << 10, IdleIn: "14m58s", Wakes: 3,
			LastWake: &control.Wake{Reason: "egress", At: *at(-time.Minute), Took: "1.8ms", Flow: "tcp 10.0.0.9:41234 > 10.0.0.1:22", UID: new(uint32(1000))}},
		{Name: "b", PublicKey: "YmJi", State: control.StateConnected, Permanent: true, AllowedIPs: []string{"192.168.0.0/16"}, LastRx: at(-time.Minute)},
		{Name: "c", PublicKey: "Y2Nj", State: control.StateIdle, AllowedIPs: []string{"10.0.0.3/32"}, LastRx: at(-time.Hour), Wakes: 9, Dropped: 2,
			LastWake:  &control.Wake{Reason: "ingress", At: *at(-2 * time.Hour), Took: "2.5s"},
			LastError: "no handshake within 30s", RetryAt: at(8 * time.Second)},
	}
}

func TestScreens(t *testing.T) {
	for name, prepare := range map[string]func(s screen){
		"80x24": func(screen) {},
		"160x20": func(s screen) {
			s.Update(tea.WindowSizeMsg{Width: 160, Height: 20})
		},
		"40x10": func(s screen) {
			s.Update(tea.WindowSizeMsg{Width: 40, Height: 10})
		},
		"selected": func(s screen) {
			s.press("end", "up", "o", "r", "f", "f", "f", "f", "f", "/", "1", "0", "enter")
			s.Update(doneMsg{verb: "wake", result: control.Result{PublicKey: "Y2Nj", State: "idle", Error: "no handshake within 30s"}})
		},
		"typing":  func(s screen) { s.press("/", "1", "9", "8", ".") },
		"failure": func(s screen) { s.Update(statusMsg{err: errors.New("nobody listens")}) },
		"help":    func(s screen) { s.press("?") },
	} {
		s := newScreen(t, some()...)
		for i := range 40 {
			peers := some()
			peers[1].RxBytes += uint64(i * i << 10)
			peers[2].TxBytes += uint64(i/8) << 8
			s.Update(s.at(time.Duration(i)*time.Second, peers...))
		}
		s.Update(eventsMsg{
			{Time: *at(39 * time.Second), PublicKey: "ZGRk", From: "idle", To: "connecting", Reason: "egress", Flow: "udp 10.0.0.9:1 > 10.0.0.4:53"},
		})
		prepare(s)
		got := s.text()
		path := filepath.Join("testdata", name+".txt")
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: got\n%swant\n%s", name, got, want)
		}
	}
}

func TestOrder(t *testing.T) {
	s := newScreen(t, some()...)
	peers := some()
	peers[0].TxBytes += 100
	s.Update(s.at(time.Second, peers...))
	for _, want := range []string{"abcd", "dabc", "cabd", "cabd", "cabd", "abcd", "abcd"} {
		if got := s.order(); got != want {
			t.Errorf("by %s: %s, want %s", orders[s.model.order].name, got, want)
		}
		if s.selected != "YWFh" {
			t.Errorf("by %s another peer is selected: %s", orders[s.model.order].name, s.selected)
		}
		s.press("o")
	}
	s.press("o", "o", "o", "o", "o", "r")
	if got := s.order(); got != "dcba" {
		t.Errorf("reversed: %s", got)
	}

	// Who was active in the same second stays in place.
	now := some()
	now[1].LastTx, now[2].LastRx = at(100*time.Millisecond), at(900*time.Millisecond)
	s.press("r")
	s.Update(s.at(time.Second, now...))
	if got := s.order(); got != "abcd" {
		t.Errorf("both talk: %s", got)
	}
}

func TestFilter(t *testing.T) {
	s := newScreen(t, some()...)
	for _, test := range []struct{ keys, want string }{
		{"f", "cd"}, {"f", ""}, {"f", "a"}, {"f", "b"}, {"f", "abcd"},
		{"/ 1 0 . enter", "acd"}, {"f", "cd"}, {"esc", "abcd"},
		{"/ Y 2 N j", "c"}, {"backspace", "c"}, {"backspace", "c"}, {"backspace", "abc"}, {"backspace", "abcd"}, {"esc", "abcd"},
		{"/ D enter", "d"}, {"/ esc", "abcd"},
		{"/ 1 9 2 . 0", "a"}, {"esc", "abcd"},
		{"/ q", ""}, {"enter", ""}, {"esc", "abcd"},
	} {
		if msg := s.press(strings.Fields(test.keys)...); msg != nil {
			t.Errorf("%s asks for %v", test.keys, msg)
		}
		if got := s.order(); got != test.want {
			t.Errorf("%s: %s, want %s", test.keys, got, test.want)
		}
	}
}

func TestActions(t *testing.T) {
	s := newScreen(t, some()...)
	s.press("down")
	for name, want := range map[string]tea.Msg{
		"w": asked{"wake", "YmJi"}, "s": asked{"sleep", "YmJi"}, "x": asked{"exclude", "YmJi"}, "i": asked{"include", "YmJi"},
		"z": nil, "q": tea.QuitMsg{}, "ctrl+c": tea.QuitMsg{},
	} {
		if got := s.press(name); got != want {
			t.Errorf("%s asks for %v, want %v", name, got, want)
		}
	}
	if got := s.press("/", "ctrl+c"); got != (tea.QuitMsg{}) {
		t.Errorf("while one types, ctrl+c asks for %v", got)
	}
	s.press("n", "o", "n", "e", "enter")
	if got := s.press("w"); got != nil {
		t.Errorf("with no peer on the screen: %v", got)
	}
}

// TestMove has a hundred peers that change places. Whoever is selected stays so, and on the screen.
func TestMove(t *testing.T) {
	peers := make([]control.Peer, 100)
	for i := range peers {
		peers[i] = control.Peer{PublicKey: fmt.Sprintf("%04d", i), State: control.StateIdle, LastTx: at(-time.Duration(i) * time.Second)}
	}
	s := newScreen(t, peers...)
	rows := s.rows()
	for _, test := range []struct {
		keys     string
		selected int
		first    int
	}{
		{"up", 0, 0}, {"down", 1, 0}, {"pgdown", 1 + rows, 2}, {"end", 99, 100 - rows}, {"down", 99, 100 - rows},
		{"pgup", 99 - rows, 99 - rows}, {"home", 0, 0}, {"G", 99, 100 - rows}, {"g", 0, 0}, {"j", 1, 0}, {"k", 0, 0},
	} {
		s.press(test.keys)
		if want := peers[test.selected].PublicKey; s.selected != want || s.first != test.first {
			t.Errorf("%s: selected %s, first %d; want %s, %d", test.keys, s.selected, s.first, want, test.first)
		}
	}
	slept := slices.Clone(peers)
	slept[0].LastTx = at(-time.Hour)
	s.Update(s.at(time.Second, slept...))
	if s.selected != "0000" || s.first != 100-rows || !strings.Contains(s.text(), "100 of 100") {
		t.Errorf("it fell to the end: selected %s, first %d", s.selected, s.first)
	}
	s.Update(s.at(2*time.Second, slept[1:]...))
	if s.selected != "0001" || s.first != 0 || len(s.shown) != 99 {
		t.Errorf("it was removed: selected %s, first %d of %d", s.selected, s.first, len(s.shown))
	}
	for height := range 30 {
		s.Update(tea.WindowSizeMsg{Width: 20 + height, Height: height + 1})
		for line := range strings.Lines(s.text()) {
			if n := utf8.RuneCountInString(strings.TrimSpace(line)); n > s.width {
				t.Errorf("%d characters in %d: %s", n, s.width, line)
			}
		}
	}
}

func TestRates(t *testing.T) {
	s := newScreen(t, some()...)
	a := s.peers["YWFh"]
	if a.rx != 0 || s.total.past != nil {
		t.Errorf("what was counted before is a rate: %+v", a.traffic)
	}
	peers := some()
	peers[1].RxBytes += 4000
	peers[1].TxBytes += 2000
	peers[2].TxBytes += 1000
	s.Update(s.at(2*time.Second, peers...))
	if a.rx != 2000 || a.tx != 1000 || s.total.rx != 2000 || s.total.tx != 1500 {
		t.Errorf("of two seconds: %+v, %+v", a.traffic, s.total)
	}

	// Of the next second only one peer is told.
	peers[2].TxBytes += 77
	next := s.at(3*time.Second, peers[2])
	next.part = true
	s.Update(next)
	if b := s.peers["YmJi"]; a.rx != 0 || len(a.past) != 2 || b.tx != 77 || len(s.shown) != 4 {
		t.Errorf("of a part: %+v, %+v, %d peers", a.traffic, b.traffic, len(s.shown))
	}

	// The daemon was started again, and counts from 0.
	restarted := s.at(4*time.Second, some()...)
	restarted.status.Since = clock
	restarted.status.Peers[1].RxBytes = 1 << 30
	s.Update(restarted)
	if a.rx != 0 || s.total.tx != 0 {
		t.Errorf("after a new start: %+v, %+v", a.traffic, s.total)
	}
	for i := range samples {
		s.Update(s.at(time.Duration(5+i)*time.Second, restarted.status.Peers...))
	}
	if a.past != nil || s.peers["ZGRk"].past != nil {
		t.Error("silence is remembered for ever")
	}
}

func TestEvents(t *testing.T) {
	s := newScreen(t, some()...)
	event := func(key, from, to, reason string) control.Event {
		return control.Event{Time: clock, PublicKey: key, From: from, To: to, Reason: reason}
	}
	s.Update(eventsMsg{
		event("ZGRk", "idle", "connecting", "egress"), event("ZGRk", "connecting", "connected", "egress"),
		event("Y2Nj", "idle", "connecting", "request"), event("YWFh", "connected", "idle", "egress"),
		event("bmV3", "", "idle", ""),
	})
	if d, a := s.peers["ZGRk"], s.peers["YWFh"]; d.State != "connected" || a.State != "idle" || a.IdleIn != "" || len(s.shown) != 5 {
		t.Errorf("%+v, %+v, %d peers", d.Peer, a.Peer, len(s.shown))
	}
	if s.wakes["egress"] != 1 || s.wakes["request"] != 1 || !strings.HasSuffix(s.news, "bmV3  new -> idle") {
		t.Errorf("%v, %s", s.wakes, s.news)
	}
	s.Update(eventsMsg{event("ZGRk", "connected", "", "")})
	if s.peers["ZGRk"] != nil || s.order() != "abc" || !strings.HasSuffix(s.news, "ZGRk  connected -> gone") {
		t.Errorf("%s, %s", s.order(), s.news)
	}
}

func BenchmarkStatus(b *testing.B) {
	peers := make([]control.Peer, 10_000)
	for i := range peers {
		peers[i] = control.Peer{PublicKey: fmt.Sprintf("%043d=", i), State: control.StateIdle, LastTx: at(-time.Duration(i*7919%10_000) * time.Second)}
	}
	for name, n := range map[string]int{"all": len(peers), "part": 100} {
		b.Run(name, func(b *testing.B) {
			m := newModel(nil)
			m.take(statusMsg{status: control.Status{Peers: peers}, at: clock})
			for i := 1; b.Loop(); i++ {
				m.Update(statusMsg{status: control.Status{Peers: peers[:n]}, part: n < len(peers), at: clock.Add(time.Duration(i) * time.Second)})
				m.View()
			}
		})
	}
}
