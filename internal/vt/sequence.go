// SPDX-License-Identifier: Apache-2.0

package vt

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

const escape = 0x1b

// sequence takes one that begins with escape, and returns its length; 0: it is not complete.
func (s *Screen) sequence(text []byte) int {
	if len(text) < 2 {
		return 0
	}
	switch text[1] {
	case '[':
		for i, c := range text[2:] {
			if c >= 0x40 && c <= 0x7e {
				s.control(string(text[2:2+i]), c)
				return i + 3
			}
		}
		return 0
	case ']', 'P', '_', '^', 'X': // strings to the terminal itself: titles, queries
		end := bytes.IndexAny(text[2:], "\a\x1b")
		if end < 0 || text[2+end] == escape && len(text) < end+4 {
			return 0
		}
		if text[2+end] == escape {
			end++
		}
		return end + 3
	case '(', ')', '#', '%', ' ': // character sets
		if len(text) < 3 {
			return 0
		}
		return 3
	case '7':
		s.savedX, s.savedY = s.x, s.y
	case '8':
		s.x, s.y = s.savedX, s.savedY
	case 'M':
		if s.y == s.top {
			s.scroll(s.top, s.bottom, -1)
		} else {
			s.y = max(0, s.y-1)
		}
	}
	return 2
}

// control carries out a control sequence.
func (s *Screen) control(parameters string, final byte) {
	if strings.HasPrefix(parameters, "?") && (final == 'h' || final == 'l') {
		s.setModes(parameters[1:], final == 'h')
		return
	}
	if strings.ContainsAny(parameters, "?<=>! $\"'") {
		return
	}
	args := arguments(parameters)
	n := max(1, args[0]) // of what, as most of them count
	switch final {
	case 'A':
		s.y = max(0, s.y-n)
	case 'B', 'e':
		s.y = min(s.Height-1, s.y+n)
	case 'C', 'a':
		s.x = min(s.Width-1, s.x+n)
	case 'D':
		s.x = max(0, s.x-n)
	case 'E':
		s.x, s.y = 0, min(s.Height-1, s.y+n)
	case 'F':
		s.x, s.y = 0, max(0, s.y-n)
	case 'G', '`':
		s.x = min(s.Width, n) - 1
	case 'd':
		s.y = min(s.Height, n) - 1
	case 'H', 'f':
		column := 1
		if len(args) > 1 {
			column = max(1, args[1])
		}
		s.x, s.y = min(s.Width, column)-1, min(s.Height, n)-1
	case 'J':
		s.eraseDisplay(args[0])
	case 'K':
		x := min(s.x, s.Width-1)
		switch args[0] {
		case 0:
			s.erase(s.y, x, s.Width)
		case 1:
			s.erase(s.y, 0, x+1)
		case 2:
			s.erase(s.y, 0, s.Width)
		}
	case 'X':
		s.erase(s.y, s.x, s.x+n)
	case 'P':
		line := s.cells[s.y]
		n = min(n, s.Width-s.x)
		copy(line[s.x:], line[s.x+n:])
		s.erase(s.y, s.Width-n, s.Width)
	case '@':
		line := s.cells[s.y]
		n = min(n, s.Width-s.x)
		copy(line[s.x+n:], slices.Clone(line[s.x:]))
		s.erase(s.y, s.x, s.x+n)
	case 'L', 'M':
		if final == 'L' {
			n = -n
		}
		if s.y >= s.top && s.y <= s.bottom {
			s.scroll(s.y, s.bottom, n)
		}
	case 'S':
		s.scroll(s.top, s.bottom, n)
	case 'T':
		s.scroll(s.top, s.bottom, -n)
	case 'r':
		bottom := s.Height
		if len(args) > 1 && args[1] > 0 {
			bottom = min(args[1], s.Height)
		}
		if n < bottom {
			s.top, s.bottom = n-1, bottom-1
			s.x, s.y = 0, 0
		}
	case 'b':
		for range n {
			s.put(s.last)
		}
	case 'm':
		s.style.set(args)
	}
}

func (s *Screen) eraseDisplay(what int) {
	from, to := s.y+1, s.Height
	switch what {
	case 0:
		s.erase(s.y, s.x, s.Width)
	case 1:
		from, to = 0, s.y
		s.erase(s.y, 0, s.x+1)
	default:
		from = 0
	}
	for y := from; y < to; y++ {
		s.erase(y, 0, s.Width)
	}
}

func (s *Screen) setModes(parameters string, on bool) {
	for _, mode := range arguments(parameters) {
		switch mode {
		case 25:
			s.CursorHidden = !on
		case 1049:
			if on && !s.Alternate {
				s.main, s.cells = s.cells, blank(s.Width, s.Height)
				s.savedX, s.savedY = s.x, s.y
			} else if !on && s.Alternate {
				s.cells = s.main
				s.Resize(s.Width, s.Height)
				s.x, s.y = s.savedX, s.savedY
			}
			s.Alternate = on
		}
	}
}

// maxArgument is more than any screen has rows or columns.
const maxArgument = 9999

// arguments has at least one element; those that are left out are 0.
func arguments(parameters string) []int {
	var args []int
	for text := range strings.SplitSeq(strings.ReplaceAll(parameters, ":", ";"), ";") {
		n, _ := strconv.Atoi(text)
		args = append(args, min(n, maxArgument))
	}
	return args
}

// set changes a style by a sequence's arguments (SGR).
func (s *Style) set(args []int) {
	for i := 0; i < len(args); i++ {
		switch n := args[i]; {
		case n == 0:
			*s = Style{}
		case n == 1:
			s.Bold = true
		case n == 2:
			s.Dim = true
		case n == 3:
			s.Italic = true
		case n == 4:
			s.Underline = true
		case n == 7:
			s.Reverse = true
		case n == 22:
			s.Bold, s.Dim = false, false
		case n == 23:
			s.Italic = false
		case n == 24:
			s.Underline = false
		case n == 27:
			s.Reverse = false
		case n >= 30 && n <= 37:
			s.Fore = palette(n - 30)
		case n >= 40 && n <= 47:
			s.Back = palette(n - 40)
		case n >= 90 && n <= 97:
			s.Fore = palette(n - 90 + 8)
		case n >= 100 && n <= 107:
			s.Back = palette(n - 100 + 8)
		case n == 39:
			s.Fore = Colour{}
		case n == 49:
			s.Back = Colour{}
		case n == 38 || n == 48:
			c, used := extended(args[i+1:])
			i += used
			if n == 38 {
				s.Fore = c
			} else {
				s.Back = c
			}
		}
	}
}

// extended is a colour of 256, or of all, and how many arguments it took.
func extended(args []int) (c Colour, used int) {
	switch {
	case len(args) >= 2 && args[0] == 5:
		return palette(args[1]), 2
	case len(args) >= 4 && args[0] == 2:
		return Colour{true, uint8(args[1]), uint8(args[2]), uint8(args[3])}, 4
	}
	return Colour{}, len(args)
}

// ansi are the sixteen colours that terminals let people choose. These are easy to read on a dark ground.
var ansi = [16]Colour{
	{true, 0x1d, 0x1f, 0x21}, {true, 0xe0, 0x6c, 0x75}, {true, 0x98, 0xc3, 0x79}, {true, 0xe5, 0xc0, 0x7b},
	{true, 0x61, 0xaf, 0xef}, {true, 0xc6, 0x78, 0xdd}, {true, 0x56, 0xb6, 0xc2}, {true, 0xc8, 0xcc, 0xd4},
	{true, 0x6b, 0x72, 0x80}, {true, 0xff, 0x7b, 0x85}, {true, 0xb5, 0xe8, 0x90}, {true, 0xff, 0xd8, 0x8a},
	{true, 0x82, 0xc4, 0xff}, {true, 0xde, 0x9a, 0xf2}, {true, 0x76, 0xd6, 0xe2}, {true, 0xff, 0xff, 0xff},
}

// palette is one of xterm's 256 colours.
func palette(n int) Colour {
	level := func(n int) uint8 {
		if n == 0 {
			return 0
		}
		return uint8(55 + 40*n)
	}
	switch {
	case n < 0 || n > 255:
		return Colour{}
	case n < 16:
		return ansi[n]
	case n < 232:
		n -= 16
		return Colour{true, level(n / 36), level(n / 6 % 6), level(n % 6)}
	}
	grey := uint8(8 + 10*(n-232))
	return Colour{true, grey, grey, grey}
}
