// SPDX-License-Identifier: Apache-2.0

package view

import (
	"slices"
	"strings"
)

// gap is what stands between two columns.
const gap = "  "

// widest is how wide a column becomes where nothing limits it: enough for a key or an endpoint.
const widest = 60

// Column is one of a table of Ts.
type Column[T any] struct {
	Title string
	Right bool // aligned to the right, for numbers
	// Wide is how wide it is whatever its cells, so that it does not change all the time where they do.
	Wide int
	// Rank is how soon it goes where there is no room for all: the highest first. Columns of rank 0 stay.
	Rank int
	// Least is what its cells can be cut to. 0: they are always whole.
	Least int
	// Cell may be longer than width only if the column's cells are always whole. A width of 0 is no limit.
	Cell func(row T, width int) string
}

// Table is columns that were given their widths.
type Table[T any] struct {
	columns []Column[T]
	widths  []int
	limit   int // of a line; 0: none
}

// Fit chooses columns and widths for rows so that a line has at most limit characters, if columns of rank 0 allow it. What
// room is left is shared out evenly. A limit of 0 is none.
func Fit[T any](columns []Column[T], rows []T, limit int) Table[T] {
	t := Table[T]{columns: slices.Clone(columns), limit: limit}
	whole := make([]int, len(columns)) // widths, as are those of t
	for i, c := range columns {
		whole[i] = max(len(c.Title), c.Wide)
		for _, row := range rows {
			whole[i] = max(whole[i], Width(c.Cell(row, 0)))
		}
	}
	if limit == 0 {
		// A cell that is much longer than the others is written whole, and does not push all of them to the right.
		for _, w := range whole {
			t.widths = append(t.widths, min(w, widest))
		}
		return t
	}
	for i, c := range columns {
		t.widths = append(t.widths, whole[i])
		if c.Least > 0 {
			t.widths[i] = min(whole[i], max(c.Least, len(c.Title)))
		}
	}
	for t.width() > limit {
		last := 0
		for i, c := range t.columns {
			if c.Rank > t.columns[last].Rank {
				last = i
			}
		}
		if t.columns[last].Rank == 0 {
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
func (t Table[T]) width() int {
	sum := len(gap) * (len(t.widths) - 1)
	for _, w := range t.widths {
		sum += w
	}
	return sum
}

// Titles is the table's first line.
func (t Table[T]) Titles() string {
	return t.line(func(c Column[T], _ int) string { return c.Title })
}

// Row is the line of one row.
func (t Table[T]) Row(row T) string {
	return t.line(func(c Column[T], width int) string { return c.Cell(row, width) })
}

func (t Table[T]) line(cell func(c Column[T], width int) string) string {
	padded := make([]string, len(t.columns))
	for i, c := range t.columns {
		room := t.widths[i]
		if t.limit == 0 {
			room = 0
		}
		padded[i] = pad(cell(c, room), t.widths[i], c.Right)
	}
	return Cut(strings.TrimRight(strings.Join(padded, gap), " "), t.limit)
}
