// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// Control sequences of ECMA-48.
const (
	reset  = "\x1b[0m"
	bold   = "\x1b[1m"
	dim    = "\x1b[2m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
)

// sign tells at a glance what a line of the timeline is about.
type sign struct{ glyph, colour string }

var (
	note   = sign{" ", ""}
	packet = sign{"→", yellow}
	awake  = sign{"●", green}
	asleep = sign{"○", dim}
)

// reporter writes the timeline, in lines of at most 80 columns.
type reporter struct {
	out     io.Writer
	colour  bool
	elapsed func() time.Duration // since the demo began
	begun   bool                 // to write
	err     error                // the first that writing met
}

func newReporter(out io.Writer, colour bool) *reporter {
	begin := time.Now()
	return &reporter{out: out, colour: colour, elapsed: func() time.Duration { return time.Since(begin) }}
}

// section begins a part of the story.
func (r *reporter) section(title, remark string) {
	if r.begun {
		r.line("")
	}
	r.line(r.paint(bold, title) + "  " + r.paint(dim, remark))
}

// step is something that happened just now.
func (r *reporter) step(s sign, format string, args ...any) {
	r.line(fmt.Sprintf("%5.1f s  %s  %s", r.elapsed().Seconds(), r.paint(s.colour, s.glyph), fmt.Sprintf(format, args...)))
}

// heading stands above rows.
func (r *reporter) heading() {
	r.line(r.paint(dim, fmt.Sprintf("%12s%-41s%8s%11s%8s", "", "first packet", "woke", "round trip", "plain")))
}

// row is a wake in one line.
func (r *reporter) row(w wake) {
	flow := w.flow
	if w.reason == lazy.ReasonIngress {
		flow += " (from there)"
	}
	r.step(awake, "%-41s%8s%11s%8s", flow, millis(w.took), millis(w.roundTrip), millis(w.plain))
}

// figure is a line of the result.
func (r *reporter) figure(name, format string, args ...any) {
	r.line(fmt.Sprintf("  %-11s %s", name, fmt.Sprintf(format, args...)))
}

func (r *reporter) line(text string) {
	r.begun = true
	if _, err := fmt.Fprintln(r.out, strings.TrimRight(text, " ")); err != nil && r.err == nil {
		r.err = err
	}
}

func (r *reporter) paint(colour, text string) string {
	if !r.colour || colour == "" || text == "" {
		return text
	}
	return colour + text + reset
}

// millis writes a short time with two or three digits that count.
func millis(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	if ms < 9.95 {
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", ms)
}

// seconds writes a long time.
func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// interval writes how often keepalives are sent.
func interval(d time.Duration) string {
	if d == 0 {
		return "off"
	}
	return fmt.Sprintf("%g s", d.Seconds())
}
