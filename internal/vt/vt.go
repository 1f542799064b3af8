// SPDX-License-Identifier: Apache-2.0

// Package vt is a terminal without a screen: programs run on it, and tests and pictures see what a person would.
package vt

import (
	"strings"
	"unicode/utf8"
)

// Colour is of a character or behind it. The zero value is the terminal's own.
type Colour struct {
	Set     bool
	R, G, B uint8
}

// Style is how a character looks.
type Style struct {
	Fore, Back                            Colour
	Bold, Dim, Italic, Underline, Reverse bool
}

// Cell is one character on the screen; a rune of 0 is a blank that nobody wrote.
type Cell struct {
	Rune rune
	Style
}

// Screen is what a program's output makes of a terminal of one size. It knows the part of ECMA-48 and xterm that is in use
// here, and every character is one cell wide. Write never fails.
type Screen struct {
	Width, Height int
	Alternate     bool // the alternate screen is shown
	CursorHidden  bool

	cells       [][]Cell
	main        [][]Cell // while the alternate screen is shown
	x, y        int      // x is Width after a character in the last column
	savedX      int
	savedY      int
	top, bottom int // scrolling region, both inclusive
	style       Style
	last        rune
	rest        []byte // of an incomplete sequence or character
}

// New returns an empty screen.
func New(width, height int) *Screen {
	s := &Screen{}
	s.Resize(width, height)
	return s
}

// Resize keeps the upper left part.
func (s *Screen) Resize(width, height int) {
	old := s.cells
	s.Width, s.Height = width, height
	s.cells = blank(width, height)
	for y := range min(len(old), height) {
		copy(s.cells[y], old[y])
	}
	s.top, s.bottom = 0, height-1
	s.x, s.y = min(s.x, width), min(s.y, height-1)
}

// Line is the text of one line, without blanks at its end.
func (s *Screen) Line(y int) string {
	var b strings.Builder
	for _, c := range s.cells[y] {
		if c.Rune == 0 {
			c.Rune = ' '
		}
		b.WriteRune(c.Rune)
	}
	return strings.TrimRight(b.String(), " ")
}

// Cells is one line.
func (s *Screen) Cells(y int) []Cell { return s.cells[y] }

// String is all lines.
func (s *Screen) String() string {
	lines := make([]string, s.Height)
	for y := range lines {
		lines[y] = s.Line(y)
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n") + "\n"
}

// Write takes a program's output.
func (s *Screen) Write(p []byte) (int, error) {
	text := append(s.rest, p...)
	s.rest = nil
	for len(text) > 0 {
		n := 0
		if text[0] == escape {
			n = s.sequence(text)
		} else {
			n = s.character(text)
		}
		if n == 0 { // the rest is still to come
			s.rest = append([]byte(nil), text...)
			break
		}
		text = text[n:]
	}
	return len(p), nil
}

// character takes one that is not the beginning of a sequence.
func (s *Screen) character(text []byte) int {
	if !utf8.FullRune(text) {
		return 0
	}
	r, n := utf8.DecodeRune(text)
	switch r {
	case '\r':
		s.x = 0
	case '\n', '\v', '\f':
		s.feed()
	case '\b':
		s.x = max(0, min(s.x, s.Width-1)-1)
	case '\t':
		s.x = min(s.Width-1, (s.x/8+1)*8)
	default:
		if r >= ' ' && r != 0x7f {
			s.put(r)
		}
	}
	return n
}

func (s *Screen) put(r rune) {
	if s.x >= s.Width {
		s.x = 0
		s.feed()
	}
	s.cells[s.y][s.x] = Cell{r, s.style}
	s.x++
	s.last = r
}

func (s *Screen) feed() {
	if s.y == s.bottom {
		s.scroll(s.top, s.bottom, 1)
		return
	}
	s.y = min(s.y+1, s.Height-1)
}

// scroll moves lines up by n, or down by -n, and blanks those that become free.
func (s *Screen) scroll(top, bottom, n int) {
	region := s.cells[top : bottom+1]
	count := min(max(n, -n), len(region))
	free := blank(s.Width, count)
	if n > 0 {
		copy(region, region[count:])
		copy(region[len(region)-count:], free)
	} else {
		copy(region[count:], region)
		copy(region, free)
	}
}

// erase blanks the cells of a line from one column to before another, with the colour that is set for the background.
func (s *Screen) erase(y, from, to int) {
	for x := max(0, from); x < min(to, s.Width); x++ {
		s.cells[y][x] = Cell{Style: Style{Back: s.style.Back}}
	}
}

func blank(width, height int) [][]Cell {
	cells := make([][]Cell, height)
	for y := range cells {
		cells[y] = make([]Cell, width)
	}
	return cells
}
