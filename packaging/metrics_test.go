// SPDX-License-Identifier: Apache-2.0

// Package packaging has what lazybpf is shipped with.
package packaging

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/lazybpf/lazybpf/internal/metrics"
)

// TestMetricsExist: dashboard and alerts ask for nothing that lazybpf does not tell.
func TestMetricsExist(t *testing.T) {
	m := metrics.New("wg0", "v1", func() (metrics.Snapshot, error) {
		return metrics.Snapshot{Peers: map[string]int{"idle": 1}, Detail: make([]metrics.Peer, 1)}, nil
	})
	m.Woke("egress", 0)
	m.Changed(1, 1, 1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = m.Serve(t.Context(), l) }()
	response, err := http.Get("http://" + l.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	known, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`\b(?:lazybpf|wireguard)_[a-z_]+`)
	for _, path := range []string{"grafana/lazybpf.json", "prometheus/lazybpf.rules.yml"} {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(path, ".json") && !json.Valid(content) {
			t.Errorf("%s is no JSON", path)
		}
		asked := name.FindAllString(string(content), -1)
		if len(asked) == 0 {
			t.Errorf("%s asks for nothing", path)
		}
		for _, metric := range asked {
			if !strings.Contains(string(known), "\n"+metric+"{") {
				t.Errorf("%s asks for %s, which is not told", path, metric)
			}
		}
	}
}
