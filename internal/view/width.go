// SPDX-License-Identifier: Apache-2.0

package view

import (
	"strings"

	"github.com/clipperhouse/displaywidth"
)

// Width is how many columns of a terminal a text takes.
func Width(text string) int { return displaywidth.String(text) }

// Cut shortens text to width columns, the last of which then is an ellipsis. A width of 0 is none.
func Cut(text string, width int) string {
	if width <= 0 {
		return text
	}
	return displaywidth.TruncateString(text, width, "…")
}

// pad fills text up with blanks to width columns, on its left or on its right.
func pad(text string, width int, left bool) string {
	blanks := strings.Repeat(" ", max(0, width-Width(text)))
	if left {
		return blanks + text
	}
	return text + blanks
}
