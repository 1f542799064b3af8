// SPDX-License-Identifier: Apache-2.0

package view

import (
	"strings"
	"unicode"
)

// wide are the characters that take two columns of a terminal: the ranges of Unicode's EastAsianWidth.txt that are W or F,
// with what lies unused between them.
var wide = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x1100, Hi: 0x115f, Stride: 1}, {Lo: 0x2e80, Hi: 0x303e, Stride: 1}, {Lo: 0x3041, Hi: 0xa4cf, Stride: 1},
		{Lo: 0xac00, Hi: 0xd7a3, Stride: 1}, {Lo: 0xf900, Hi: 0xfaff, Stride: 1}, {Lo: 0xfe30, Hi: 0xfe6f, Stride: 1},
		{Lo: 0xff00, Hi: 0xff60, Stride: 1}, {Lo: 0xffe0, Hi: 0xffe6, Stride: 1},
	},
	R32: []unicode.Range32{
		{Lo: 0x1f300, Hi: 0x1f64f, Stride: 1}, {Lo: 0x1f680, Hi: 0x1f6ff, Stride: 1}, {Lo: 0x1f900, Hi: 0x1faff, Stride: 1},
		{Lo: 0x20000, Hi: 0x3fffd, Stride: 1},
	},
}

// Width is how many columns of a terminal a text takes.
func Width(text string) int {
	width := 0
	for _, r := range text {
		width += columnsOf(r)
	}
	return width
}

func columnsOf(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me): // stand upon the one before
		return 0
	case unicode.Is(wide, r):
		return 2
	}
	return 1
}

// Cut shortens text to width columns, the last of which then is an ellipsis. A width of 0 is none.
func Cut(text string, width int) string {
	if width <= 0 || len(text) <= width || Width(text) <= width {
		return text
	}
	free := width - 1
	for i, r := range text {
		if free -= columnsOf(r); free < 0 {
			return text[:i] + "…"
		}
	}
	return text
}

// pad fills text up with blanks to width columns, on its left or on its right.
func pad(text string, width int, left bool) string {
	blanks := strings.Repeat(" ", max(0, width-Width(text)))
	if left {
		return blanks + text
	}
	return text + blanks
}
