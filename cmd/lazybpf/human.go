// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"time"
)

// shortKey is enough of a public key to tell it from others, and to name it in a command.
func shortKey(key string) string {
	return key[:min(len(key), 8)]
}

// ago says how long before now something was. The zero time never was.
func ago(now, then time.Time) string {
	age := now.Sub(then)
	switch {
	case then.IsZero():
		return "never"
	case age < time.Second:
		return "now"
	case age < time.Minute:
		return fmt.Sprintf("%ds ago", age/time.Second)
	case age < time.Hour:
		return fmt.Sprintf("%dm ago", age/time.Minute)
	case age < 48*time.Hour:
		return fmt.Sprintf("%dh ago", age/time.Hour)
	default:
		return fmt.Sprintf("%dd ago", age/(24*time.Hour))
	}
}

// size writes a number of bytes with at most five characters; K is 1024.
func size(n uint64) string {
	if n < 1024 {
		return fmt.Sprint(n)
	}
	value := float64(n)
	unit := -1
	for value >= 999.5 {
		value /= 1024
		unit++
	}
	format := "%.0f%c"
	if value < 9.95 {
		format = "%.1f%c"
	}
	return fmt.Sprintf(format, value, "KMGTPE"[unit])
}

// shortPrefixes is the first prefix, and how many more there are, within width characters. Hosts lose their /32 or /128.
func shortPrefixes(prefixes []string, width int) string {
	if len(prefixes) == 0 {
		return "none"
	}
	first, more := prefixes[0], ""
	if p, err := netip.ParsePrefix(first); err == nil && p.IsSingleIP() {
		first = p.Addr().String()
	}
	if len(prefixes) > 1 {
		more = fmt.Sprintf(" +%d", len(prefixes)-1)
	}
	return cut(first, width-len(more)) + more
}

// cut shortens text to width characters, the last of which then is an ellipsis.
func cut(text string, width int) string {
	runes := []rune(text)
	if len(runes) <= width {
		return text
	}
	return string(runes[:width-1]) + "…"
}
