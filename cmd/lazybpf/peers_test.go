// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"testing"

	"github.com/lazybpf/lazybpf/pkg/control"
)

func TestPeers(t *testing.T) {
	t.Chdir(t.TempDir())
	fakeDaemon{peers: func(verb string, peers []string) (results []control.Result, err error) {
		for _, peer := range peers {
			switch peer {
			case "nobody":
				return nil, fmt.Errorf("%q: %w", peer, control.ErrNoPeer)
			case "AAAA":
				return nil, fmt.Errorf("%w: 2 public keys begin with %s: give more of it", control.ErrAmbiguous, peer)
			case "phone", "tv":
				results = append(results, control.Result{Peer: peer, State: control.StateIdle, Error: "no handshake within 30s"})
			default:
				results = append(results, control.Result{Peer: peer, State: verb, Took: "1.8ms"})
			}
		}
		return results, nil
	}}.start(t, "wg0.sock")
	for _, test := range []struct {
		line           string
		code           int
		stdout, stderr string
	}{
		{"wake wg0 laptop 10.0.0.3", 0, "laptop: wake, took 1.8ms\n10.0.0.3: wake, took 1.8ms\n", ""},
		{"sleep wg0 laptop", 0, "laptop: sleep, took 1.8ms\n", ""},
		{"exclude wg0 laptop", 0, "laptop: exclude, took 1.8ms\n", ""},
		{"include wg0 laptop", 0, "laptop: include, took 1.8ms\n", ""},
		{"wake wg0 phone laptop tv", 1, "laptop: wake, took 1.8ms\n",
			"lazybpf: phone: no handshake within 30s; tv: no handshake within 30s\n"},
		{"wake wg0 laptop nobody", 1, "", "lazybpf: \"nobody\": no such peer: `lazybpf status` shows all\n"},
		{"sleep wg0 AAAA", 1, "", "lazybpf: more than one peer matches: 2 public keys begin with AAAA: give more of it\n"},
	} {
		code, stdout, stderr := lazybpf(t, test.line+" --control wg0.sock")
		if code != test.code || stdout != test.stdout || stderr != test.stderr {
			t.Errorf("lazybpf %s: exit %d\n%s%swant\n%s%s", test.line, code, stdout, stderr, test.stdout, test.stderr)
		}
	}
}
