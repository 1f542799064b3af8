// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

type column struct {
	title string
	right bool // aligned to the right, for numbers
}

type row struct {
	cells  []string
	colour string // of the whole line; empty: the terminal's own
}

// writeTable makes each column as wide as its widest cell, and leaves two spaces between columns.
func writeTable(b *strings.Builder, columns []column, rows []row, colour bool) {
	titles := make([]string, len(columns))
	widths := make([]int, len(columns))
	for i, c := range columns {
		titles[i] = c.title
		widths[i] = utf8.RuneCountInString(c.title)
		for _, r := range rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(r.cells[i]))
		}
	}
	line := func(cells []string) string {
		padded := make([]string, len(cells))
		for i, cell := range cells {
			width := -widths[i]
			if columns[i].right {
				width = widths[i]
			}
			padded[i] = fmt.Sprintf("%*s", width, cell)
		}
		return strings.TrimRight(strings.Join(padded, "  "), " ")
	}
	fmt.Fprintln(b, line(titles))
	for _, r := range rows {
		if colour && r.colour != "" {
			fmt.Fprintln(b, r.colour+line(r.cells)+reset)
		} else {
			fmt.Fprintln(b, line(r.cells))
		}
	}
}
