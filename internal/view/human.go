// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Size writes a number of bytes with at most five characters; K is 1024.
func Size(n uint64) string {
	if n < 1024 {
		return strconv.FormatUint(n, 10)
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

// Count writes a number with a comma at each thousand.
func Count(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// Ago says how long before now something was. The zero time never was.
func Ago(now, then time.Time) string {
	switch age := now.Sub(then); {
	case then.IsZero():
		return "never"
	case age < time.Second:
		return "now"
	default:
		return span(age) + " ago"
	}
}

// span writes a length of time in its largest unit, with at most four characters up to 999 days.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	default:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
}

// Took writes what is text of [time.Duration.String] with three digits.
func Took(text string) string {
	d, err := time.ParseDuration(text)
	if err != nil {
		return text
	}
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit).String()
}

// TrimDuration makes 15m0s and 1h0m0s of [time.Duration.String] 15m and 1h.
func TrimDuration(text string) string {
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// prefixes writes as many as there is room for, and how many more there are. Hosts lose their /32 or /128.
func prefixes(all []string, width int) string {
	if len(all) == 0 {
		return "none"
	}
	short := make([]string, len(all))
	for i, text := range all {
		short[i] = text
		if p, err := netip.ParsePrefix(text); err == nil && p.IsSingleIP() {
			short[i] = p.Addr().String()
		}
	}
	if whole := strings.Join(short, ", "); width == 0 || len(whole) <= width {
		return whole
	}
	for n := len(short) - 1; n > 1; n-- {
		if text := strings.Join(short[:n], ", ") + more(len(short)-n); len(text) <= width {
			return text
		}
	}
	rest := more(len(short) - 1)
	return Cut(short[0], width-len(rest)) + rest
}

func more(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" +%d", n)
}

// Wrap breaks text at blanks into lines of at most width characters, where words are not longer. A width of 0 is none.
func Wrap(text string, width int) []string {
	if width <= 0 || Width(text) <= width {
		return []string{text}
	}
	var lines []string
	for word := range strings.FieldsSeq(text) {
		last := len(lines) - 1
		if last >= 0 && Width(lines[last]+word) < width {
			lines[last] += " " + word
		} else {
			lines = append(lines, Cut(word, width))
		}
	}
	return lines
}
