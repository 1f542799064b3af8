// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/lazybpf/lazybpf/internal/lab"
)

const (
	textWidth = 26 // of the longest line about a host
	gapWidth  = 12 // between the boxes of the hosts
)

// picture draws the two hosts of a network and what is between them.
func picture(n *lab.Network) []string {
	here, there := describe(n.Here), describe(n.There)
	gap := strings.Repeat(" ", gapWidth)
	lines := []string{edge("┌─ here ", "┐") + gap + edge("┌─ there ", "┐")}
	for i, joint := range []string{"╞══ tunnel ══╡", "│" + gap + "│", "├── cable ───┤"} {
		lines = append(lines, fmt.Sprintf("│ %-*s %s %-*s │", textWidth, here[i], joint, textWidth, there[i]))
	}
	return append(lines, edge("└", "┘")+gap+edge("└", "┘"))
}

// describe is what a host has on the way of a packet.
func describe(h *lab.Host) [3]string {
	return [3]string{
		fmt.Sprintf("%-6s  %s", h.Name, h.IPv4),
		fmt.Sprintf("%-6s  %s", "", h.IPv6),
		fmt.Sprintf("%-6s  %s", "udp", h.Endpoint),
	}
}

// edge is the upper or lower side of a box.
func edge(left, right string) string {
	width := textWidth + 4
	return left + strings.Repeat("─", width-utf8.RuneCountInString(left+right)) + right
}
