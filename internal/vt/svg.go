// SPDX-License-Identifier: Apache-2.0

package vt

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

// The picture's measures, in pixels.
const (
	cellWidth  = 8.4 // of a monospaced font of fontSize
	cellHeight = 18
	fontSize   = 14
	baseline   = 13.5 // below the upper edge of a cell
	margin     = 14
)

var (
	ground = Colour{true, 0x1d, 0x1f, 0x21}
	ink    = Colour{true, 0xc8, 0xcc, 0xd4}
)

func (c Colour) String() string { return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B) }

// SVG draws the screen down to its last line with something on it.
func (s *Screen) SVG(w io.Writer, title string) error {
	height := s.Height
	for height > 1 && s.Line(height-1) == "" {
		height--
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%d" font-size="%d" `+
		`font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace">`+"\n",
		float64(s.Width)*cellWidth+2*margin, height*cellHeight+2*margin, fontSize)
	b.WriteString("<title>")
	if err := xml.EscapeText(&b, []byte(title)); err != nil {
		return err
	}
	fmt.Fprintf(&b, "</title>\n<rect width=\"100%%\" height=\"100%%\" rx=\"8\" fill=\"%s\"/>\n", ground)
	for y := range height {
		line := s.cells[y]
		for x := 0; x < len(line); {
			end := x + 1
			for end < len(line) && line[end].Style == line[x].Style {
				end++
			}
			drawRun(&b, line[x:end], x, y)
			x = end
		}
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// drawRun draws characters of one style.
func drawRun(b *strings.Builder, run []Cell, x, y int) {
	style := run[0].Style
	fore, back := style.Fore, style.Back
	if !fore.Set {
		fore = ink
	}
	if style.Reverse {
		if !back.Set {
			back = ground
		}
		fore, back = back, fore
	}
	if back.Set {
		rectangle(b, left(x), top(y), float64(len(run))*cellWidth, cellHeight, back, "")
	}
	opacity := ""
	if style.Dim {
		opacity = ` opacity="0.6"`
	}
	// Bars and lines are drawn: fonts leave gaps between them.
	text := make([]rune, len(run))
	for i, c := range run {
		text[i] = ' '
		switch {
		case c.Rune >= '▁' && c.Rune <= '█':
			height := float64(c.Rune-'▁'+1) / 8 * cellHeight
			rectangle(b, left(x+i), top(y+1)-height, cellWidth, height, fore, opacity)
		case lines[c.Rune] != arms{}:
			drawLines(b, lines[c.Rune], x+i, y, fore, opacity)
		case c.Rune > ' ':
			text[i] = c.Rune
		}
	}
	drawText(b, text, style, x, y, fore, opacity)
}

// drawText leaves out the blanks at either end, and says how wide the rest is: not every font is as wide as ours.
func drawText(b *strings.Builder, text []rune, style Style, x, y int, fore Colour, opacity string) {
	trimmed := strings.TrimRight(string(text), " ")
	blanks := len(trimmed) - len(strings.TrimLeft(trimmed, " "))
	trimmed = trimmed[blanks:]
	if trimmed == "" {
		return
	}
	if style.Bold {
		opacity += ` font-weight="bold"`
	}
	if style.Italic {
		opacity += ` font-style="italic"`
	}
	if style.Underline {
		opacity += ` text-decoration="underline"`
	}
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" textLength="%.1f" xml:space="preserve" fill="%s"%s>`, left(x+blanks), top(y)+baseline,
		float64(len([]rune(trimmed)))*cellWidth, fore, opacity)
	_ = xml.EscapeText(b, []byte(trimmed)) // a Builder takes all
	b.WriteString("</text>\n")
}

// arms are how many lines go from the middle of a cell to its edges.
type arms struct{ up, down, left, right int }

var lines = map[rune]arms{
	'─': {0, 0, 1, 1}, '│': {1, 1, 0, 0}, '═': {0, 0, 2, 2},
	'┌': {0, 1, 0, 1}, '┐': {0, 1, 1, 0}, '└': {1, 0, 0, 1}, '┘': {1, 0, 1, 0},
	'├': {1, 1, 0, 1}, '┤': {1, 1, 1, 0}, '╞': {1, 1, 0, 2}, '╡': {1, 1, 2, 0},
}

func drawLines(b *strings.Builder, a arms, x, y int, fill Colour, opacity string) {
	middleX, middleY := left(x)+cellWidth/2, top(y)+cellHeight/2
	if a.up > 0 {
		rectangle(b, middleX-0.5, top(y), 1, cellHeight/2, fill, opacity)
	}
	if a.down > 0 {
		rectangle(b, middleX-0.5, middleY, 1, cellHeight/2, fill, opacity)
	}
	across := func(from float64, n int) {
		for i := range n {
			rectangle(b, from, middleY-0.5+float64(4*i-2*(n-1)), cellWidth/2, 1, fill, opacity)
		}
	}
	across(left(x), a.left)
	across(middleX, a.right)
}

func rectangle(b *strings.Builder, x, y, width, height float64, fill Colour, opacity string) {
	fmt.Fprintf(b, `<rect x="%.1f" y="%.2f" width="%.1f" height="%.2f" fill="%s"%s/>`+"\n", x, y, width, height, fill, opacity)
}

func left(x int) float64 { return margin + float64(x)*cellWidth }

func top(y int) float64 { return margin + float64(y)*cellHeight }
