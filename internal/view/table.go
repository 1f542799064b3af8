// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// gap is what stands between two columns.
const gap = "  "

// column is one of a table of Ts.
type column[T any] struct {
	title string
	right bool // aligned to the right, for numbers
	// rank is how soon it goes where there is no room for all: the highest first. Columns of rank 0 stay.
	rank int
	// least is what its cells can be cut to. 0: they are always whole.
	least int
	// cell may be longer than width only if the column's cells are always whole. A width of 0 is no limit.
	cell func(row T, width int) string
}

// table is columns that were given their widths.
type table[T any] struct {
	columns []column[T]
	widths  []int
	limit   int // of a line; 0: none
}

// fit chooses columns and widths for rows so that a line has at most limit characters, if columns of rank 0 allow it. What
// room is left is shared out evenly. A limit of 0 is none.
func fit[T any](columns []column[T], rows []T, limit int) table[T] {
	t := table[T]{columns: slices.Clone(columns), limit: limit}
	whole := make([]int, len(columns)) // widths, as are those of t
	for i, c := range columns {
		whole[i] = len(c.title)
		for _, row := range rows {
			whole[i] = max(whole[i], utf8.RuneCountInString(c.cell(row, 0)))
		}
	}
	if limit == 0 {
		t.widths = whole
		return t
	}
	for i, c := range columns {
		t.widths = append(t.widths, whole[i])
		if c.least > 0 {
			t.widths[i] = min(whole[i], max(c.least, len(c.title)))
		}
	}
	for t.width() > limit {
		last := 0
		for i, c := range t.columns {
			if c.rank > t.columns[last].rank {
				last = i
			}
		}
		if t.columns[last].rank == 0 {
			break
		}
		t.columns = slices.Delete(t.columns, last, last+1)
		t.widths = slices.Delete(t.widths, last, last+1)
		whole = slices.Delete(whole, last, last+1)
	}
	for free, grown := limit-t.width(), true; free > 0 && grown; {
		grown = false
		for i := range t.widths {
			if free > 0 && t.widths[i] < whole[i] {
				t.widths[i]++
				free--
				grown = true
			}
		}
	}
	return t
}

// width is that of a line.
func (t table[T]) width() int {
	sum := len(gap) * (len(t.widths) - 1)
	for _, w := range t.widths {
		sum += w
	}
	return sum
}

func (t table[T]) titles() string {
	return t.line(func(c column[T], _ int) string { return c.title })
}

func (t table[T]) row(row T) string {
	return t.line(func(c column[T], width int) string { return c.cell(row, width) })
}

func (t table[T]) line(cell func(c column[T], width int) string) string {
	padded := make([]string, len(t.columns))
	for i, c := range t.columns {
		width := -t.widths[i]
		if c.right {
			width = t.widths[i]
		}
		padded[i] = fmt.Sprintf("%*s", width, cell(c, t.widths[i]))
	}
	return Cut(strings.TrimRight(strings.Join(padded, gap), " "), t.limit)
}
