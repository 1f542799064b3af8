// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Control sequences of ECMA-48, and of xterm for the alternate screen.
const (
	Reset  = "\x1b[0m"
	Dim    = "\x1b[2m"
	Red    = "\x1b[31m"
	Yellow = "\x1b[33m"

	home           = "\x1b[H"
	clearLine      = "\x1b[K"
	clearRest      = "\x1b[J"
	enterAlternate = "\x1b[?1049h\x1b[?25l" // and hides the cursor
	leaveAlternate = "\x1b[?25h\x1b[?1049l"
)

// Terminal returns the size of the terminal that w is, in characters; ok is false for anything else. A terminal that does
// not know its size has 80 by 24.
func Terminal(w io.Writer) (width, height int, ok bool) {
	file, ok := w.(*os.File)
	if !ok {
		return 0, 0, false
	}
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	switch {
	case err != nil:
		return 0, 0, false
	case size.Col == 0 || size.Row == 0:
		return 80, 24, true
	}
	return int(size.Col), int(size.Row), true
}

// Draws says whether w is a terminal that knows escape sequences.
func Draws(w io.Writer) bool {
	_, _, terminal := Terminal(w)
	return terminal && os.Getenv("TERM") != "dumb"
}

// UseColour follows https://no-color.org.
func UseColour(w io.Writer) bool { return Draws(w) && os.Getenv("NO_COLOR") == "" }

// Screen is a terminal's alternate screen, on which one text replaces another.
type Screen struct{ w io.Writer }

// OpenScreen leaves what the terminal shows aside, until Close.
func OpenScreen(w io.Writer) (Screen, error) {
	_, err := io.WriteString(w, enterAlternate)
	return Screen{w}, err
}

// Show replaces the text on the screen, without the flicker of a screen that is cleared first. Each line is cleared before
// it is written: after one as wide as the screen the cursor would still stand on its last character.
func (s Screen) Show(text string) error {
	_, height, _ := Terminal(s.w)
	lines := crop(strings.Split(strings.TrimSuffix(text, "\n"), "\n"), height)
	all := home + clearLine + strings.Join(lines, "\n"+clearLine)
	if len(lines) < height {
		all += "\n" + clearRest
	}
	_, err := io.WriteString(s.w, all)
	return err
}

// Close shows again what was there before.
func (s Screen) Close() error {
	_, err := io.WriteString(s.w, leaveAlternate)
	return err
}

// crop keeps the first lines, so that they fit into a height.
func crop(lines []string, height int) []string {
	if len(lines) <= height || height < 1 {
		return lines
	}
	return append(lines[:height-1:height-1], fmt.Sprintf("… %d more lines", len(lines)-height+1))
}
