// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"
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

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func sampleStatus() Status {
	return Status{
		Interface: "wg0", Attach: "tcx", InactivityThreshold: "15m0s", Since: start,
		Counts: Counts{Idle: 9998, Connected: 1, Permanent: 1},
		Peers: []Peer{{
			PublicKey: "AAAA", State: StateConnected, Endpoint: "192.0.2.1:51820", AllowedIPs: []string{"10.0.0.2/32"},
			LastTx: new(start.Add(123 * time.Millisecond)), IdleIn: "14m58s", Wakes: 1, Held: 1, Replayed: 1,
			LastWake: &Wake{Reason: "egress", At: start, Took: "1.8ms", Flow: "tcp 10.0.0.1:41234 > 10.0.0.2:22", UID: new(uint32(1000))},
		}, {
			PublicKey: "BBBB", Name: "laptop", State: StateIdle,
		}},
	}
}

func sampleEvent() Event {
	return Event{
		Time: start, Interface: "wg0", PublicKey: "AAAA", From: StateIdle, To: StateConnecting,
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
		{Result{Peer: "laptop", PublicKey: "BBBB", State: StateConnected, Took: "1.8ms"},
			`{"peer":"laptop","public_key":"BBBB","state":"connected","took":"1.8ms","error":""}` + "\n"},
	} {
		var got bytes.Buffer
		if err := NewEncoder(&got).Encode(test.value); err != nil {
			t.Fatal(err)
		}
		if got.String() != test.want {
			t.Errorf("%T is\n%s\nwant\n%s", test.value, got.String(), test.want)
		}
	}
}

func TestEmptyStatusHasLists(t *testing.T) {
	text, err := json.Marshal(withoutNil(Status{}))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte(`"peers":[]`)) {
		t.Errorf("no empty list of peers in %s", text)
	}
}
