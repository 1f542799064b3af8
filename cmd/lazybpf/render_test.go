// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/lazybpf/lazybpf/internal/control"
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
			PublicKey: "YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmI=", Name: "backup-server", State: control.StateIdle,
			AllowedIPs: []string{"10.0.0.3/32"}, LastTx: before(52 * time.Hour), LastRx: before(50 * time.Hour),
			RxBytes: 1 << 40, TxBytes: 123456789, Wakes: 12345,
		}, {
			PublicKey: "ZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGQ=", Name: "office", State: control.StateConnected, Permanent: true,
			AllowedIPs: []string{"192.168.100.0/24", "10.0.0.4/32", "fd00::4/128"}, LastRx: before(4 * time.Minute), RxBytes: 1023, TxBytes: 1536,
		}, {
			PublicKey: "ZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWU=", Name: "phone", State: control.StateIdle,
			AllowedIPs: []string{}, LastTx: before(12 * time.Second), LastError: "no handshake within 30s", RetryAt: before(-8 * time.Second),
		}, {
			PublicKey: "ZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmY=", Name: "laptop", State: control.StateConnected,
			AllowedIPs: []string{"10.0.0.2/32"}, LastTx: before(2 * time.Second), IdleIn: "14m58s", RxBytes: 4096, TxBytes: 84, Wakes: 1,
			LastWake: &control.Wake{Reason: "egress", At: clock, Took: "1.8ms", Flow: "tcp 10.0.0.1:41234 > 10.0.0.2:22", UID: new(uint32(1000))},
		}, {
			PublicKey: "Z2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2c=", State: control.StateConnecting,
			AllowedIPs: []string{"fd00::7/128"}, LastTx: before(0),
		}},
	}
}

const sampleTable = `wg0: attached by tcx 3h ago; peers sleep after 15m0s without traffic
3 idle, 1 connecting, 1 connected, 1 permanent

PEER        STATE       ALLOWED IPS       ACTIVITY  IDLE IN    RX    TX  WAKES
Z2dnZ2dn    connecting  fd00::7           now       -           0     0      0
laptop      connected   10.0.0.2          2s ago    14m58s   4.0K    84      1
phone       idle        none              12s ago   -           0     0      0
office      permanent   192.168.100.… +2  4m ago    never    1023  1.5K      0
backup-se…  idle        10.0.0.3          2d ago    -        1.0T  118M  12345
Y2NjY2Nj    idle        fd00:1234:56… +1  never     -           0     0      0
phone could not connect: no handshake within 30s; it may try again in 8s
`

func TestRenderStatus(t *testing.T) {
	got := renderTables([]control.Status{sampleStatus()}, clock, false)
	if got != sampleTable {
		t.Errorf("got\n%swant\n%s", got, sampleTable)
	}
	for line := range strings.Lines(got) {
		if utf8.RuneCountInString(strings.TrimSpace(line)) > 80 {
			t.Errorf("longer than 80 columns: %s", line)
		}
	}
}

func TestRenderSeveral(t *testing.T) {
	empty := control.Status{Interface: "wg1", Attach: "clsact", InactivityThreshold: "1s", Since: *before(time.Second)}
	want := sampleTable + `
wg1: attached by clsact 1s ago; peers sleep after 1s without traffic
0 idle, 0 connecting, 0 connected, 0 permanent
`
	if got := renderTables([]control.Status{sampleStatus(), empty}, clock, false); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestRenderColour(t *testing.T) {
	got := renderTables([]control.Status{sampleStatus()}, clock, true)
	for _, want := range []string{"\n" + dim + "backup", "\n" + yellow + "Z2dn", "\nlaptop", "\noffice", "\nPEER"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	plain := strings.NewReplacer(dim, "", yellow, "", reset, "").Replace(got)
	if plain != sampleTable {
		t.Errorf("colours change the text:\n%s", plain)
	}
}

func TestAgo(t *testing.T) {
	for age, want := range map[time.Duration]string{
		-time.Hour: "now", 0: "now", time.Second - 1: "now", time.Second: "1s ago", time.Minute - 1: "59s ago",
		time.Minute: "1m ago", time.Hour - 1: "59m ago", time.Hour: "1h ago", 48*time.Hour - 1: "47h ago", 48 * time.Hour: "2d ago",
	} {
		if got := ago(clock, *before(age)); got != want {
			t.Errorf("%v: %q, want %q", age, got, want)
		}
	}
	if got := ago(clock, time.Time{}); got != "never" {
		t.Errorf("zero time: %q", got)
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0", 1023: "1023", 1024: "1.0K", 10188: "9.9K", 10189: "10K", 1023487: "999K", 1023488: "1.0M",
		1 << 30: "1.0G", 1 << 63: "8.0E", 1<<64 - 1: "16E",
	} {
		if got := size(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestShortPrefixes(t *testing.T) {
	for want, prefixes := range map[string][]string{
		"none":             nil,
		"10.0.0.2":         {"10.0.0.2/32"},
		"fd00::/32":        {"fd00::/32"},
		"fd00::1 +1":       {"fd00::1/128", "::/0"},
		"192.168.100.0/24": {"192.168.100.0/24"},
		"192.168.100… +12": append([]string{"192.168.100.0/24"}, make([]string, 12)...),
	} {
		if got := shortPrefixes(prefixes, 16); got != want {
			t.Errorf("%q: %q, want %q", prefixes, got, want)
		}
	}
}
