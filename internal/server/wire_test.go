// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/lazybpf/lazybpf/pkg/control"
)

// statusJSON is the contract: names, order, and what stands for nothing.
const statusJSON = `{"interface":"wg0","attach":"tcx","inactivity_threshold":"15m0s","since":"2026-01-02T03:04:05Z",` +
	`"counts":{"idle":9998,"connecting":0,"connected":1,"permanent":1},` +
	`"peers":[{"public_key":"AAAA","name":"","state":"connected","permanent":false,` +
	`"endpoint":"192.0.2.1:51820","allowed_ips":["10.0.0.2/32"],` +
	`"last_tx":"2026-01-02T03:04:05.123Z","last_rx":null,"idle_in":"14m58s",` +
	`"tx_packets":0,"tx_bytes":0,"rx_packets":0,"rx_bytes":0,` +
	`"wakes":1,"held":1,"replayed":1,"dropped":0,` +
	`"last_wake":{"reason":"egress","at":"2026-01-02T03:04:05Z","took":"1.8ms","flow":"tcp 10.0.0.1:41234 > 10.0.0.2:22","uid":1000},` +
	`"last_error":"","retry_at":null},` +
	`{"public_key":"BBBB","name":"laptop","state":"idle","permanent":false,` +
	`"endpoint":"","allowed_ips":[],` +
	`"last_tx":null,"last_rx":null,"idle_in":"",` +
	`"tx_packets":0,"tx_bytes":0,"rx_packets":0,"rx_bytes":0,` +
	`"wakes":0,"held":0,"replayed":0,"dropped":0,` +
	`"last_wake":null,"last_error":"","retry_at":null}]}` + "\n"

const eventJSON = `{"time":"2026-01-02T03:04:05Z","interface":"wg0","public_key":"AAAA","from":"idle","to":"connecting",` +
	`"reason":"egress","flow":"tcp 10.0.0.1:41234 > 10.0.0.2:22","uid":null}` + "\n"

var clock = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func sampleStatus() control.Status {
	return control.Status{
		Interface: "wg0", Attach: "tcx", InactivityThreshold: "15m0s", Since: clock,
		Counts: control.Counts{Idle: 9998, Connected: 1, Permanent: 1},
		Peers: []control.Peer{{
			PublicKey: "AAAA", State: control.StateConnected, Endpoint: "192.0.2.1:51820", AllowedIPs: []string{"10.0.0.2/32"},
			LastTx: new(clock.Add(123 * time.Millisecond)), IdleIn: "14m58s", Wakes: 1, Held: 1, Replayed: 1,
			LastWake: &control.Wake{Reason: "egress", At: clock, Took: "1.8ms", Flow: "tcp 10.0.0.1:41234 > 10.0.0.2:22", UID: new(uint32(1000))},
		}, {
			PublicKey: "BBBB", Name: "laptop", State: control.StateIdle,
		}},
	}
}

func sampleEvent() control.Event {
	return control.Event{
		Time: clock, Interface: "wg0", PublicKey: "AAAA", From: control.StateIdle, To: control.StateConnecting,
		Reason: "egress", Flow: "tcp 10.0.0.1:41234 > 10.0.0.2:22",
	}
}

func TestJSON(t *testing.T) {
	for _, test := range []struct {
		value any
		want  string
	}{
		{withoutNil(sampleStatus()), statusJSON},
		{sampleEvent(), eventJSON},
		{control.Result{Peer: "laptop", PublicKey: "BBBB", State: control.StateConnected, Took: "1.8ms"},
			`{"peer":"laptop","public_key":"BBBB","state":"connected","took":"1.8ms","error":""}` + "\n"},
	} {
		var got bytes.Buffer
		if err := control.NewEncoder(&got).Encode(test.value); err != nil {
			t.Fatal(err)
		}
		if got.String() != test.want {
			t.Errorf("%T is\n%s\nwant\n%s", test.value, got.String(), test.want)
		}
	}
}

func TestEmptyStatusHasLists(t *testing.T) {
	text, err := json.Marshal(withoutNil(control.Status{}))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte(`"peers":[]`)) {
		t.Errorf("no empty list of peers in %s", text)
	}
}
