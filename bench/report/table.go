// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
)

// row is a line of the table of targets.
type row struct {
	what     string
	target   float64
	atLeast  bool // else at most
	open     bool // there is no target
	format   string
	measured figure
	over     figure // what measured is divided by; its pattern is empty if by nothing
	usual    figure // what the usual design takes; its pattern is empty where there is none
	limit    []figure
}

// figure is what benchmarks of these names have measured, the worst of them.
type figure struct {
	pattern, unit string
	scale         float64 // 0: 1
	say           string  // what it is, for limits
}

func (f figure) of(r *results) (float64, bool) {
	value, ok := r.highest(f.pattern, f.unit)
	if f.scale != 0 {
		value *= f.scale
	}
	return value, ok
}

// value is what was measured.
func (row row) value(r *results) (float64, bool) {
	value, ok := row.measured.of(r)
	if row.over.pattern != "" {
		over, has := row.over.of(r)
		value, ok = value/over, ok && has
	}
	return value, ok
}

// goal is the target as text, empty if there is none.
func (row row) goal() string {
	sign := "≤ "
	switch {
	case row.open:
		return ""
	case row.target == 0:
		sign = ""
	case row.atLeast:
		sign = "≥ "
	}
	return sign + fmt.Sprintf(row.format, row.target)
}

func (row row) reached(measured float64) bool {
	switch {
	case row.open:
		return true
	case row.target == 0:
		return measured < 0.001 // a thing or two for all of them
	case row.atLeast:
		return measured >= row.target
	}
	return measured <= row.target
}

// targets are those of the project. A format has the unit.
var targets = []row{
	{
		what:   "program net of an empty one, connected peer, host route, 1 to 1,000,000 peers",
		target: 22, format: "%.1f ns", measured: figure{pattern: `detect\.Packet/peers=.*`, unit: "net-ns/packet"},
		limit: []figure{
			{pattern: `detect\.Floor/tail_call`, unit: "net-ns/packet", say: "a tail call alone"},
			{pattern: `detect\.Floor/and_two.*`, unit: "net-ns/packet", say: "a look-up in an array and two atomic additions"},
			{pattern: `detect\.Floor/look-up_in_a_hash_map`, unit: "net-ns/packet", say: "a look-up in a hash map"},
			{pattern: `detect\.Floor/coarse_clock`, unit: "net-ns/packet", say: "the coarse clock"},
		},
	},
	{
		what:   "the same, peer found by the last of 4 prefix lengths among 100,000 prefixes",
		target: 45, format: "%.1f ns", measured: figure{pattern: `detect\.Packet/lengths=4/.*`, unit: "net-ns/packet"},
		usual: figure{pattern: `detect\.Floor/look-up_in_an_LPM_trie`, unit: "net-ns/packet"},
		limit: []figure{{pattern: `detect\.Packet/peers=1/.*`, unit: "net-ns/packet", say: "one length"}},
	},
	{
		what:   "random destinations over 1,000,000 peers (cache-cold), against the hot figure",
		target: 2, format: "%.1f", measured: figure{pattern: `detect\.PacketRandom/peers=1048576`, unit: "net-ns/packet"},
		over: figure{pattern: `detect\.PacketRandom/peers=1`, unit: "net-ns/packet"},
		limit: []figure{
			{pattern: `detect\.PacketRandom/peers=1`, unit: "net-ns/packet", say: "to one peer, in ns"},
			{pattern: `detect\.PacketRandom/peers=1048576`, unit: "net-ns/packet", say: "to random ones"},
			{pattern: `detect\.PacketRandom/record`, unit: "net-ns/packet", say: "memory alone: an addition to a random record, found without looking for it"},
		},
	},
	{
		what:   "arming one dormant peer, 100,000 at once",
		target: 100, format: "%.0f ns", measured: figure{pattern: `bench\.Arm/detector/peers=100000`, unit: "ns/peer"},
		usual: figure{pattern: `bench\.Arm/listeners/peers=10000`, unit: "ns/peer"},
	},
	{
		what:   "memory per dormant peer, 100,000 peers: detector, its maps and its part of the process",
		target: 256, format: "%.0f B", measured: figure{pattern: `bench\.Memory/detector/peers=100000`, unit: "B/peer"},
		usual: figure{pattern: `bench\.Memory/listeners/peers=10000`, unit: "B/peer"},
		limit: []figure{{pattern: `bench\.Memory/detector/peers=100000`, unit: "kernel-B/peer", say: "the maps"}},
	},
	{
		what:   "the same: the whole daemon",
		target: 640, format: "%.0f B", measured: figure{pattern: `bench\.Daemon`, unit: "B/peer"},
		limit: []figure{
			{pattern: `bench\.Daemon`, unit: "kernel-B/peer", say: "the maps"},
			{pattern: `bench\.Memory/manager/peers=100000`, unit: "B/peer", say: "detector and manager without the daemon"},
		},
	},
	{what: "files per dormant peer", format: "%.3f", measured: figure{pattern: `bench\.Footprint/manager`, unit: "files/peer"}, usual: figure{pattern: `bench\.Footprint/listeners`, unit: "files/peer"}},
	{what: "goroutines per dormant peer", format: "%.3f", measured: figure{pattern: `bench\.Footprint/manager`, unit: "goroutines/peer"}, usual: figure{pattern: `bench\.Footprint/listeners`, unit: "goroutines/peer"}},
	{what: "timers per dormant peer", format: "%.3f", measured: figure{pattern: `bench\.Footprint/manager`, unit: "timers/peer"}, usual: figure{pattern: `bench\.Footprint/listeners`, unit: "timers/peer"}},
	{what: "calls to WireGuard per dormant peer", format: "%.3f", measured: figure{pattern: `bench\.Footprint/manager`, unit: "wireguard-calls/peer"}, usual: figure{pattern: `bench\.Footprint/listeners`, unit: "wireguard-calls/peer"}},
	{
		what:   "dormant peers on one interface",
		target: 1 << 20, atLeast: true, format: "%.0f", measured: figure{pattern: `bench\.Most/manager`, unit: "peers"},
		usual: figure{pattern: `bench\.Most/listeners`, unit: "peers"},
	},
	{
		what:   "steady state, 100,000 dormant, 100 connected: CPU of the daemon, of a core",
		target: 0.1, format: "%.3f %%", measured: figure{pattern: `bench\.Daemon`, unit: "cpu-%"},
	},
	{
		what: "drift check, which reads the device, 100,000 peers: CPU of the daemon, of a core",
		open: true, format: "%.2f %%", measured: figure{pattern: `bench\.Daemon`, unit: "drift-cpu-%"},
	},
	{
		what:   "event: packet to manager, median",
		target: 60, format: "%.0f µs", measured: figure{pattern: `bench\.Event`, unit: "p50-µs"},
		limit: []figure{{pattern: `bench\.Event`, unit: "thread-p50-µs", say: "a ring buffer that wakes a thread, nothing else"}},
	},
	{
		what:   "event: packet to manager, 99 %",
		target: 500, format: "%.0f µs", measured: figure{pattern: `bench\.Event`, unit: "p99-µs"},
		limit: []figure{{pattern: `bench\.Event`, unit: "thread-p99-µs", say: "a ring buffer that wakes a thread, nothing else"}},
	},
	{
		what:   "first round trip against plain WireGuard, pass",
		target: 1.05, format: "%.2f", measured: figure{pattern: `e2e\.FirstRoundTrip`, unit: "pass/plain"},
		usual: figure{pattern: `e2e\.FirstRoundTrip`, unit: "fake/plain"},
		limit: []figure{{pattern: `e2e\.FirstRoundTrip`, unit: "plain-ms", scale: 1000, say: "plain WireGuard's, in µs"}},
	},
	{
		what:   "first round trip against plain WireGuard, hold",
		target: 1.25, format: "%.2f", measured: figure{pattern: `e2e\.FirstRoundTrip`, unit: "hold/plain"},
		usual: figure{pattern: `e2e\.FirstRoundTrip`, unit: "fake/plain"},
		limit: []figure{{pattern: `e2e\.FirstRoundTrip`, unit: "reinjected/plain", say: "the usual design, when it sends the handshake initiation on"}},
	},
	{
		what:   "10,000 peers woken at once (hold), against the rate of wgctrl alone",
		target: 0.8, atLeast: true, format: "%.2f", measured: figure{pattern: `bench\.WakeAll`, unit: "woken/wgctrl"},
	},
	{
		what:   "TCP throughput, program on against off",
		target: 0.98, atLeast: true, format: "%.3f", measured: figure{pattern: `bench\.Throughput`, unit: "on/off"},
	},
	{
		what:   "start of the daemon with 100,000 peers, beyond reading the device",
		target: 2, format: "%.2f s", measured: figure{pattern: `bench\.Start/standin/.*`, unit: "beyond-s"},
		limit: []figure{{pattern: `bench\.Start/standin/.*`, unit: "beyond-cpu-s", say: "s of it on a CPU"}},
	},
	{
		what:   "the same with 60,000 peers on wireguard-go",
		target: 2, format: "%.2f s", measured: figure{pattern: `bench\.Start/wireguard/.*`, unit: "beyond-s"},
		limit: []figure{{pattern: `bench\.Start/wireguard/.*`, unit: "beyond-cpu-s", say: "s of it on a CPU"}},
	},
	{
		what:   "`status -o json`, 10,000 peers, median",
		target: 100, format: "%.0f ms", measured: figure{pattern: `bench\.Status`, unit: "p50-ms"},
		limit: []figure{{pattern: `bench\.Status`, unit: "cpu-ms", say: "ms of it on a CPU"}},
	},
}

// table is the targets as Markdown.
func (r *results) table() string {
	var text strings.Builder
	text.WriteString("| what | target | measured | usual design | usual / measured | |\n|---|---|---|---|---|---|\n")
	for _, row := range targets {
		measured, ok := row.value(r)
		if !ok {
			continue
		}
		usual, ratio := "–", "–"
		if value, ok := row.usual.of(r); ok {
			usual = fmt.Sprintf(row.format, value)
			if measured >= 0.001 {
				ratio = fmt.Sprintf("%.3g", value/measured)
			}
		}
		goal, verdict := row.goal(), "reached"
		switch {
		case goal == "":
			goal, verdict = "–", "–"
		case !row.reached(measured):
			verdict = "**missed**"
		}
		fmt.Fprintf(&text, "| %s | %s | "+row.format+" | %s | %s | %s |\n", row.what, goal, measured, usual, ratio, verdict)
	}
	return text.String()
}

// limits are, for each target that was missed, what else was measured in the same
// run that says why.
func (r *results) limits() string {
	var text strings.Builder
	for _, row := range targets {
		measured, ok := row.value(r)
		if !ok || row.reached(measured) {
			continue
		}
		fmt.Fprintf(&text, "* %s: "+row.format+".\n", row.what, measured)
		for _, limit := range row.limit {
			if value, ok := limit.of(r); ok {
				fmt.Fprintf(&text, "  In the same run, %s: %.4g.\n", limit.say, value)
			}
		}
	}
	if text.Len() == 0 {
		return "None.\n"
	}
	return text.String()
}
