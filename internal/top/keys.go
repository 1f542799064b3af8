// SPDX-License-Identifier: Apache-2.0

package top

import (
	"slices"

	tea "charm.land/bubbletea/v2"

	"github.com/lazybpf/lazybpf/pkg/control"
)

// binding is what some keys do.
type binding struct {
	keys []string
	help string
	do   func(m *model) tea.Cmd
}

var bindings = []binding{
	{[]string{"up", "k"}, "to the peer above", quietly(func(m *model) { m.move(-1) })},
	{[]string{"down", "j"}, "to the peer below", quietly(func(m *model) { m.move(1) })},
	{[]string{"pgup"}, "a page up", quietly(func(m *model) { m.move(-m.rows()) })},
	{[]string{"pgdown", "space"}, "a page down", quietly(func(m *model) { m.move(m.rows()) })},
	{[]string{"home", "g"}, "to the first", quietly(func(m *model) { m.move(-len(m.shown)) })},
	{[]string{"end", "G"}, "to the last", quietly(func(m *model) { m.move(len(m.shown)) })},
	{[]string{"o"}, "sort by something else", quietly(func(m *model) {
		m.order = (m.order + 1) % len(orders)
		m.arrange()
	})},
	{[]string{"r"}, "reverse the order", quietly(func(m *model) {
		m.backwards = !m.backwards
		m.arrange()
	})},
	{[]string{"f"}, "only peers of one state", quietly(func(m *model) {
		kinds := append([]string{""}, control.Kinds...)
		m.kind = kinds[(slices.Index(kinds, m.kind)+1)%len(kinds)]
		m.arrange()
	})},
	{[]string{"/"}, "only peers with this in name, key or address", quietly(func(m *model) { m.typing = true })},
	{[]string{"esc"}, "all peers again", quietly(func(m *model) {
		m.kind = ""
		m.setFilter("")
	})},
	{[]string{"w"}, "wake the peer", onSelected("wake")},
	{[]string{"s"}, "let it sleep now", onSelected("sleep")},
	{[]string{"x"}, "exclude it: never let it sleep", onSelected("exclude")},
	{[]string{"i"}, "include it: let it sleep again", onSelected("include")},
	{[]string{"?", "h"}, "this help", quietly(func(m *model) { m.helping = true })},
	{[]string{"q", "ctrl+c"}, "quit", func(*model) tea.Cmd { return tea.Quit }},
	{[]string{"ctrl+z"}, "suspend", func(*model) tea.Cmd { return tea.Suspend }},
}

func quietly(do func(m *model)) func(m *model) tea.Cmd {
	return func(m *model) tea.Cmd {
		do(m)
		return nil
	}
}

func onSelected(verb string) func(m *model) tea.Cmd {
	return func(m *model) tea.Cmd {
		if m.selected == "" {
			return nil
		}
		return m.act(verb, m.selected)
	}
}

func (m *model) press(key tea.KeyPressMsg) tea.Cmd {
	name := key.String()
	switch {
	case name == "ctrl+c":
		return tea.Quit
	case m.typing:
		m.typeFilter(key)
		return nil
	case m.helping:
		m.helping = false
		return nil
	}
	for _, b := range bindings {
		if slices.Contains(b.keys, name) {
			return b.do(m)
		}
	}
	return nil
}

// typeFilter edits the filter, whose peers are shown meanwhile.
func (m *model) typeFilter(key tea.KeyPressMsg) {
	switch runes := []rune(m.filter); key.String() {
	case "enter":
		m.typing = false
	case "esc":
		m.typing = false
		m.setFilter("")
	case "backspace":
		m.setFilter(string(runes[:max(0, len(runes)-1)]))
	default:
		m.setFilter(m.filter + key.Text)
	}
}
