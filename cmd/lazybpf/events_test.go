// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/lazybpf/lazybpf/pkg/control"
)

func sampleEvents() []control.Event {
	event := control.Event{Time: clock, Interface: "wg0", PublicKey: "ZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmY="}
	added, woken, removed := event, event, event
	added.To = control.StateIdle
	woken.From, woken.To, woken.Reason = control.StateIdle, control.StateConnecting, "egress"
	woken.Flow, woken.UID = "tcp 10.0.0.1:41234 > 10.0.0.2:22", new(uint32(1000))
	removed.From = control.StateIdle
	return []control.Event{added, woken, removed}
}

func TestEvents(t *testing.T) {
	t.Chdir(t.TempDir())
	fakeDaemon{events: sampleEvents()}.start(t, "wg0.sock")
	named := control.Peer{PublicKey: sampleEvents()[0].PublicKey, Name: "laptop", State: control.StateIdle}
	fakeDaemon{events: sampleEvents()[1:], status: control.Status{Peers: []control.Peer{named}}}.start(t, "named.sock")
	for line, want := range map[string]string{
		"events wg0 --control wg0.sock": `03:04:05.000  ZmZmZmZm  new -> idle
03:04:05.000  ZmZmZmZm  idle -> connecting  egress  tcp 10.0.0.1:41234 > 10.0.0.2:22  uid 1000
03:04:05.000  ZmZmZmZm  idle -> gone
`,
		"events wg0 --control wg0.sock -o json": `{"time":"2026-01-02T03:04:05Z","interface":"wg0","public_key":"ZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmY=","from":"","to":"idle","reason":"","flow":"","uid":null}
{"time":"2026-01-02T03:04:05Z","interface":"wg0","public_key":"ZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmY=","from":"idle","to":"connecting","reason":"egress","flow":"tcp 10.0.0.1:41234 > 10.0.0.2:22","uid":1000}
{"time":"2026-01-02T03:04:05Z","interface":"wg0","public_key":"ZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmY=","from":"idle","to":"","reason":"","flow":"","uid":null}
`,
		"events wg0 --control named.sock": `03:04:05.000  laptop  idle -> connecting  egress  tcp 10.0.0.1:41234 > 10.0.0.2:22  uid 1000
03:04:05.000  laptop  idle -> gone
`,
	} {
		code, stdout, stderr := untilWrite(t, strings.Count(want, "\n"), line)
		if code != 0 || stderr != "" || stdout != want {
			t.Errorf("lazybpf %s: exit %d\n%s%swant\n%s", line, code, stdout, stderr, want)
		}
	}
}
