// SPDX-License-Identifier: Apache-2.0

package view

import (
	"strings"
	"testing"

	"github.com/lazybpf/lazybpf/pkg/control"
)

func TestWidth(t *testing.T) {
	for text, want := range map[string]int{
		"": 0, "laptop": 6, "büro": 4, "bu\u0308ro": 4, "日本語": 6, "서울": 4, "📱": 2, "…": 1, "egress 1.8µs": 12,
	} {
		if got := Width(text); got != want {
			t.Errorf("%q: %d columns, want %d", text, got, want)
		}
	}
}

func TestCut(t *testing.T) {
	for _, test := range []struct {
		text  string
		width int
		want  string
	}{
		{"laptop", 0, "laptop"}, {"laptop", 6, "laptop"}, {"laptop", 5, "lapt…"}, {"laptop", 1, "…"},
		{"größer", 6, "größer"}, {"größer", 5, "größ…"},
		{"日本語", 6, "日本語"}, {"日本語", 5, "日本…"}, {"日本語", 4, "日…"}, {"日本語", 2, "…"},
	} {
		if got := Cut(test.text, test.width); got != test.want {
			t.Errorf("%s in %d: %s, want %s", test.text, test.width, got, test.want)
		}
	}
}

// TestStatusOfWideNames keeps columns in line, and lines on the terminal.
func TestStatusOfWideNames(t *testing.T) {
	s := control.Status{}
	for _, name := range []string{"laptop", "日本語の名前のピア長い名前", "📱", "größer"} {
		s.Peers = append(s.Peers, control.Peer{Name: name, State: control.StateIdle, AllowedIPs: []string{"10.0.0.2/32"}})
	}
	for _, width := range []int{0, 60, 200} {
		_, table, _ := strings.Cut(Status(s, Options{Now: clock, Width: width}), "\n\n")
		want := -1
		for line := range strings.Lines(table) {
			before, _, found := strings.Cut(line, "10.0.0.2")
			if !found {
				continue
			}
			if want < 0 {
				want = Width(before)
			}
			if Width(before) != want || width > 0 && Width(line)-1 > width {
				t.Errorf("in %d columns:\n%s", width, table)
			}
		}
	}
}
