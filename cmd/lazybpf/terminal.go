// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Control sequences of ECMA-48.
const (
	reset       = "\x1b[0m"
	dim         = "\x1b[2m"
	yellow      = "\x1b[33m"
	clearScreen = "\x1b[H\x1b[2J"
)

// terminalRows returns the height of the terminal that w is; ok is false for anything else.
func terminalRows(w io.Writer) (rows int, ok bool) {
	file, ok := w.(*os.File)
	if !ok {
		return 0, false
	}
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, false
	}
	return int(size.Row), true
}

// useColour follows https://no-color.org.
func useColour(w io.Writer) bool {
	_, terminal := terminalRows(w)
	return terminal && os.Getenv("NO_COLOR") == ""
}

// crop keeps the first lines of text, so that they and the cursor's line fit into rows. A height of 0 is unknown.
func crop(text string, rows int) string {
	lines := strings.SplitAfter(text, "\n")
	if rows < 3 || len(lines) <= rows {
		return text
	}
	shown := rows - 2
	return strings.Join(lines[:shown], "") + fmt.Sprintf("… %d more lines\n", len(lines)-1-shown)
}
