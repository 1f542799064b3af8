// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"errors"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// timeline is what a demo without network writes, a second after the other.
func timeline(colour bool) string {
	var out strings.Builder
	var now time.Duration
	r := newReporter(&out, colour)
	r.elapsed = func() time.Duration { now += time.Second; return now }

	first := wake{
		reason: lazy.ReasonEgress, flow: "icmp 10.7.1.1 > 10.7.1.2",
		took: 400 * time.Microsecond, roundTrip: 3100 * time.Microsecond, plain: 2900 * time.Microsecond,
	}
	longest := wake{
		reason: lazy.ReasonEgress, flow: "tcp [fd07:1::1]:49789 > [fd07:1::2]:42059",
		took: 9940 * time.Microsecond, roundTrip: 9960 * time.Microsecond, plain: 1234 * time.Millisecond,
	}
	back := wake{reason: lazy.ReasonIngress, flow: "icmp 10.7.1.2 > 10.7.1.1"}

	d := demo{reporter: r, keepalives: keepalives{awake: 25 * time.Second}}
	d.section("pass", "a remark")
	d.step(asleep, "peer asleep, keepalive %s", interval(0))
	d.tell(first)
	d.heading()
	d.row(longest)
	now += 10 * time.Second
	d.row(back)
	d.section("result", "")
	d.figure("keepalive", "%s before", interval(25*time.Second))
	return out.String()
}

func TestTimeline(t *testing.T) {
	want := `
pass  a remark
  1.0 s  ○  peer asleep, keepalive off
  2.0 s  →  first packet: icmp 10.7.1.1 > 10.7.1.2
  3.0 s  ●  woke after 0.4 ms, keepalive 25 s
  4.0 s  ●  answered: round trip 3.1 ms (plain WireGuard 2.9 ms)
            first packet                                 woke round trip   plain
  5.0 s  ●  tcp [fd07:1::1]:49789 > [fd07:1::2]:42059  9.9 ms      10 ms 1234 ms
 16.0 s  ●  icmp 10.7.1.2 > 10.7.1.1 (from there)      0.0 ms     0.0 ms  0.0 ms

result
  keepalive   25 s before
`
	if got := "\n" + timeline(false); got != want {
		t.Errorf("got%s\nwant%s", got, want)
	}
}

func TestColoursAreAllThatDiffers(t *testing.T) {
	plain, coloured := timeline(false), timeline(true)
	stripped := regexp.MustCompile("\x1b\\[[0-9]+m").ReplaceAllString(coloured, "")
	if stripped != plain {
		t.Errorf("without its colours it is\n%s\nwant\n%s", stripped, plain)
	}
	if !strings.Contains(coloured, green+awake.glyph+reset) {
		t.Errorf("no green in\n%q", coloured)
	}
}

func TestPicture(t *testing.T) {
	host := func(name, ipv4, ipv6, endpoint string) *lab.Host {
		return &lab.Host{
			Name: name, IPv4: netip.MustParseAddr(ipv4), IPv6: netip.MustParseAddr(ipv6),
			Endpoint: netip.MustParseAddrPort(endpoint),
		}
	}
	got := strings.Join(picture(&lab.Network{
		Here:  host("wg1a", "10.7.1.1", "fd07:1::1", "198.18.1.1:51821"),
		There: host("wg255b", "10.7.255.2", "fd07:255::2", "198.18.255.2:52075"),
	}), "\n")
	want := `
┌─ here ─────────────────────┐            ┌─ there ────────────────────┐
│ wg1a    10.7.1.1           ╞══ tunnel ══╡ wg255b  10.7.255.2         │
│         fd07:1::1          │            │         fd07:255::2        │
│ udp     198.18.1.1:51821   ├── cable ───┤ udp     198.18.255.2:52075 │
└────────────────────────────┘            └────────────────────────────┘`
	if got != want[1:] {
		t.Errorf("got\n%s\nwant%s", got, want)
	}
}

func TestWriteError(t *testing.T) {
	r := newReporter(brokenPipe{}, false)
	r.line("a line")
	r.line("another")
	if !errors.Is(r.err, unix.EPIPE) {
		t.Errorf("error %v, want EPIPE", r.err)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, unix.EPIPE }

// columns is the width of the widest line.
func columns(text string) (widest int) {
	for line := range strings.Lines(text) {
		widest = max(widest, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")))
	}
	return widest
}
