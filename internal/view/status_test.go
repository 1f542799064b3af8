// SPDX-License-Identifier: Apache-2.0

package view

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/lazybpf/lazybpf/pkg/control"
)

var clock = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func before(d time.Duration) *time.Time { return new(clock.Add(-d)) }

// sampleStatus has a peer of each kind, in an order that no table should have.
func sampleStatus() control.Status {
	return control.Status{
		Interface: "wg0", Attach: "tcx", InactivityThreshold: "15m0s", Since: *before(3 * time.Hour),
		Counts: control.Counts{Idle: 3, Connecting: 1, Connected: 1, Permanent: 1},
		Peers: []control.Peer{{
			PublicKey: "Y2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2M=", State: control.StateIdle,
			AllowedIPs: []string{"fd00:1234:5678::/48", "10.0.0.9/32"},
		}, {
			PublicKey: "YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmI=", Name: "backup-server", State: control.StateIdle, Endpoint: "[2001:db8:1234:5678::42]:51820",
			AllowedIPs: []string{"10.0.0.3/32"}, LastTx: before(52 * time.Hour), LastRx: before(50 * time.Hour),
			RxBytes: 1 << 40, TxBytes: 123456789, Wakes: 12345,
		}, {
			PublicKey: "ZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGQ=", Name: "office", State: control.StateConnected, Permanent: true,
			AllowedIPs: []string{"192.168.100.0/24", "10.0.0.4/32", "fd00::4/128"}, LastRx: before(4 * time.Minute), RxBytes: 1023, TxBytes: 1536,
		}, {
			PublicKey: "ZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWU=", Name: "phone", State: control.StateIdle,
			AllowedIPs: []string{}, LastTx: before(12 * time.Second), LastError: "no handshake within 30s", RetryAt: before(-8 * time.Second),
		}, {
			PublicKey: "ZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmY=", Name: "laptop", State: control.StateConnected, Endpoint: "192.0.2.1:51820",
			AllowedIPs: []string{"10.0.0.2/32"}, LastTx: before(2 * time.Second), IdleIn: "14m58s", RxBytes: 4096, TxBytes: 84, Wakes: 1,
			LastWake: &control.Wake{Reason: "egress", At: clock, Took: "1.8ms", Flow: "tcp 10.0.0.1:41234 > 10.0.0.2:22", UID: new(uint32(1000))},
		}, {
			PublicKey: "Z2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2c=", State: control.StateConnecting,
			AllowedIPs: []string{"fd00::7/128"}, LastTx: before(0),
		}},
	}
}

var update = flag.Bool("update", false, "write what is shown to testdata instead of comparing")

func TestStatus(t *testing.T) {
	samples := []control.Status{
		sampleStatus(),
		{Interface: "wg1", Attach: "clsact", InactivityThreshold: "1s", Since: *before(time.Second)},
		{Interface: "wg2", InactivityThreshold: "15m0s", Since: *before(2 * time.Minute)},
	}
	for _, width := range []int{0, 20, 40, 80, 120, 200} {
		path := filepath.Join("testdata", fmt.Sprintf("status%d.txt", width))
		got := Statuses(samples, Options{Now: clock, Width: width})
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%d columns: got\n%swant\n%s", width, got, want)
		}
		for line := range strings.Lines(got) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); width > 0 && n > width {
				t.Errorf("%d characters in %d columns: %s", n, width, line)
			}
		}
		colours := Statuses(samples, Options{Now: clock, Width: width, Colour: true})
		if plain := strings.NewReplacer(Dim, "", Yellow, "", Red, "", Reset, "").Replace(colours); plain != got {
			t.Errorf("colours change the text:\n%s", plain)
		}
		for _, want := range []string{"\n" + Dim + "backup", "\n" + Dim + "phone", "\n" + Yellow + "Z2dn", "\n" + Red + "phone could"} {
			if !strings.Contains(colours, want) {
				t.Errorf("no %q in\n%s", want, colours)
			}
		}
		var red []string
		for line := range strings.Lines(colours) {
			if text, ok := strings.CutPrefix(line, Red); ok {
				red = append(red, strings.TrimSuffix(text, Reset+"\n"))
			}
		}
		if got := strings.Join(red, " "); got != "phone could not connect: no handshake within 30s; it may try again in 8s" {
			t.Errorf("red is not for the error alone: %q", got)
		}
	}
}

// Bug 22: idle was shown like offline. A peer that sleeps is well, and is told
// from one that cannot be reached at a glance.
func TestBug22IdleIsNotOffline(t *testing.T) {
	idle := control.Peer{PublicKey: strings.Repeat("a", 44), State: control.StateIdle}
	unreachable := idle
	unreachable.LastError, unreachable.RetryAt = "no handshake within 30s", before(-time.Minute)
	status := func(p control.Peer) string {
		s := control.Status{Counts: control.Counts{Idle: 1}, Peers: []control.Peer{p}}
		return Status(s, Options{Now: clock, Width: 80, Colour: true})
	}
	got := status(idle)
	for _, want := range []string{"1 idle (asleep)", "asleep"} {
		if !strings.Contains(got, want) {
			t.Errorf("nothing says %q:\n%s", want, got)
		}
	}
	for _, wrong := range []string{Red, "offline", "could not connect", "error"} {
		if strings.Contains(got, wrong) {
			t.Errorf("a peer that sleeps is shown with %q:\n%s", wrong, got)
		}
	}
	if got := status(unreachable); !strings.Contains(got, Red) || !strings.Contains(got, "could not connect") {
		t.Errorf("a peer that cannot be reached looks as one that sleeps:\n%s", got)
	}
}

// TestStatusOfMany shows the few peers that matter most, and says that there are others.
func TestStatusOfMany(t *testing.T) {
	s := control.Status{Counts: control.Counts{Idle: 123456, Connected: 2000}}
	for i := range 3000 {
		s.Peers = append(s.Peers, control.Peer{PublicKey: fmt.Sprintf("%044d", i), State: control.StateIdle, LastRx: before(time.Duration(i+1) * time.Second)})
	}
	got := Status(s, Options{Now: clock, Width: 80, Peers: 2})
	want := `123,456 idle (asleep), 0 connecting, 2,000 connected, 0 permanent
3,000 of these 125,456 match

PEER              STATE  ALLOWED IPS  ACTIVITY  SLEEP   RX  TX  WAKES  LAST WAKE
0000000000000000  idle   none         1s ago    asleep   0   0      0  -
0000000000000000  idle   none         2s ago    asleep   0   0      0  -
… 2,998 more: --all shows them, --state and --peer choose
`
	if _, got, _ := strings.Cut(got, "\n"); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := Status(s, Options{Now: clock, Width: 80}); strings.Count(got, "\n") != 3005 {
		t.Errorf("%d lines without a limit", strings.Count(got, "\n"))
	}
}

// TestStatusOfMuch has nothing cut in a pipe, and one peer's many allowed IPs do not make all lines long.
func TestStatusOfMuch(t *testing.T) {
	much := make([]string, 500)
	for i := range much {
		much[i] = fmt.Sprintf("10.21.%d.%d/32", i/250, i%250)
	}
	got := Status(control.Status{Peers: []control.Peer{
		{PublicKey: strings.Repeat("A", 44), State: control.StateIdle, AllowedIPs: much},
		{PublicKey: strings.Repeat("B", 44), State: control.StateIdle, AllowedIPs: []string{"10.0.0.2/32"}},
	}}, Options{Now: clock})
	lines := strings.Split(strings.TrimSpace(got), "\n")
	if !strings.Contains(lines[len(lines)-2], "10.21.1.248, 10.21.1.249  -") {
		t.Errorf("cut: %s", lines[len(lines)-2])
	}
	if last := lines[len(lines)-1]; !strings.Contains(last, "10.0.0.2  ") || len(last) > 200 {
		t.Errorf("%d characters: %s", len(last), last)
	}
}

func TestAgo(t *testing.T) {
	for age, want := range map[time.Duration]string{
		-time.Hour: "now", 0: "now", time.Second - 1: "now", time.Second: "1s ago", time.Minute - 1: "59s ago",
		time.Minute: "1m ago", time.Hour - 1: "59m ago", time.Hour: "1h ago", 48*time.Hour - 1: "47h ago", 48 * time.Hour: "2d ago",
	} {
		if got := Ago(clock, *before(age)); got != want {
			t.Errorf("%v: %q, want %q", age, got, want)
		}
	}
	if got := Ago(clock, time.Time{}); got != "never" {
		t.Errorf("zero time: %q", got)
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0", 1023: "1023", 1024: "1.0K", 10188: "9.9K", 10189: "10K", 1023487: "999K", 1023488: "1.0M",
		1 << 30: "1.0G", 1 << 63: "8.0E", 1<<64 - 1: "16E",
	} {
		if got := Size(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1 << 20: "1,048,576"} {
		if got := Count(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestTook(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "70µs": "70µs", "1.8ms": "1.8ms", "25.83ms": "25.8ms", "999.96ms": "1s", "1.02379s": "1.02s", "1m5.43s": "1m5.4s", "soon": "soon",
	} {
		if got := Took(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestTrimDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		10 * time.Second: "10s", 15 * time.Minute: "15m", 100 * time.Second: "1m40s", time.Hour: "1h", 80 * time.Minute: "1h20m",
	} {
		if got := TrimDuration(d.String()); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}

func TestPrefixes(t *testing.T) {
	for _, test := range []struct {
		prefixes []string
		width    int
		want     string
	}{
		{nil, 16, "none"},
		{[]string{"10.0.0.2/32"}, 16, "10.0.0.2"},
		{[]string{"fd00::/32"}, 16, "fd00::/32"},
		{[]string{"fd00::1/128", "::/0"}, 16, "fd00::1, ::/0"},
		{[]string{"fd00::1/128", "::/0"}, 12, "fd00::1 +1"},
		{[]string{"10.0.0.2/32", "10.0.0.3/32", "10.1.0.0/16"}, 21, "10.0.0.2, 10.0.0.3 +1"},
		{[]string{"10.0.0.2/32", "10.0.0.3/32", "10.1.0.0/16"}, 20, "10.0.0.2 +2"},
		{[]string{"10.0.0.2/32", "10.0.0.3/32", "10.1.0.0/16"}, 0, "10.0.0.2, 10.0.0.3, 10.1.0.0/16"},
		{[]string{"192.168.100.0/24"}, 16, "192.168.100.0/24"},
		{append([]string{"192.168.100.0/24"}, make([]string, 12)...), 16, "192.168.100… +12"},
	} {
		if got := prefixes(test.prefixes, test.width); got != test.want {
			t.Errorf("%q in %d: %q, want %q", test.prefixes, test.width, got, test.want)
		}
	}
}

func BenchmarkStatus(b *testing.B) {
	s := control.Status{}
	for i := range 100_000 {
		s.Peers = append(s.Peers, control.Peer{
			PublicKey: fmt.Sprintf("%044d", i), State: control.StateIdle, LastRx: before(time.Duration(i*7919%100_000) * time.Second),
			AllowedIPs: []string{"10.0.0.2/32", "fd00::2/128"}, Endpoint: "192.0.2.1:51820",
		})
	}
	for name, o := range map[string]Options{
		"terminal": {Now: clock, Width: 80, Peers: 200},
		"whole":    {Now: clock},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				Status(s, o)
			}
		})
	}
}
