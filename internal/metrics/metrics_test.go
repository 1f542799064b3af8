// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

// scrape asks a daemon's metrics over TCP, as Prometheus does.
func scrape(t *testing.T, m *Metrics) (status int, text string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Serve(ctx, l) }()
	response, err := http.Get("http://" + l.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	return response.StatusCode, string(body)
}

func TestMetrics(t *testing.T) {
	m := New("wg0", "v1.2.3", func() (Snapshot, error) {
		return Snapshot{
			Managed: true, Peers: map[string]int{"idle": 2, "connected": 1}, Held: 5, Replayed: 3, Dropped: 1,
			Detector: detect.Stats{Unrouted: 7, EventsLost: 1},
			Detail: []Peer{
				{PublicKey: "A=", Name: "office", AllowedIPs: "10.0.0.2/32", State: "connected", RxBytes: 10, TxBytes: 20, LastHandshake: time.Unix(1234, 0)},
				{PublicKey: "B=", AllowedIPs: "10.0.0.3/32,fd00::3/128", State: "idle"},
			},
		}, nil
	})
	m.Woke("egress", 3*time.Millisecond)
	m.Woke("egress", 40*time.Second)
	m.Woke("request", 0)
	m.Failed()
	m.Drifted(2)
	m.Changed(3, 0, 1)
	m.Read(1500 * time.Millisecond)
	if problems, err := testutil.GatherAndLint(m.registry); err != nil {
		t.Error(err)
	} else {
		for _, p := range problems {
			if !strings.HasPrefix(p.Metric, "wireguard_") { // the names are those of another exporter
				t.Errorf("%s: %s", p.Metric, p.Text)
			}
		}
	}
	status, text := scrape(t, m)
	for _, line := range []string{
		`lazybpf_build_info{interface="wg0",version="v1.2.3"} 1`,
		`lazybpf_interface_managed{interface="wg0"} 1`,
		`lazybpf_peers{interface="wg0",state="idle"} 2`,
		`lazybpf_peers{interface="wg0",state="connected"} 1`,
		`lazybpf_wakes_total{interface="wg0",reason="egress"} 2`,
		`lazybpf_wakes_total{interface="wg0",reason="request"} 1`,
		`lazybpf_wakes_total{interface="wg0",reason="ingress"} 0`, // none yet
		`lazybpf_wake_duration_seconds_count{interface="wg0"} 3`,
		`lazybpf_wake_duration_seconds_bucket{interface="wg0",le="+Inf"} 3`,
		`lazybpf_wake_failures_total{interface="wg0"} 1`,
		`lazybpf_drift_total{interface="wg0"} 2`,
		`lazybpf_peer_changes_total{change="added",interface="wg0"} 3`,
		`lazybpf_device_read_seconds{interface="wg0"} 1.5`,
		`lazybpf_held_packets_total{fate="held",interface="wg0"} 5`,
		`lazybpf_held_packets_total{fate="replayed",interface="wg0"} 3`,
		`lazybpf_detector_packets_total{interface="wg0",kind="unrouted"} 7`,
		`wireguard_sent_bytes_total{allowed_ips="10.0.0.2/32",friendly_name="office",interface="wg0",public_key="A="} 20`,
		`wireguard_latest_handshake_seconds{allowed_ips="10.0.0.2/32",friendly_name="office",interface="wg0",public_key="A="} 1234`,
		`wireguard_latest_handshake_seconds{allowed_ips="10.0.0.3/32,fd00::3/128",friendly_name="",interface="wg0",public_key="B="} 0`,
		`lazybpf_peer_awake{allowed_ips="10.0.0.3/32,fd00::3/128",friendly_name="",interface="wg0",public_key="B="} 0`,
	} {
		if status != http.StatusOK || !strings.Contains(text, line+"\n") {
			t.Errorf("status %d, without %s", status, line)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// TestNotManaged: an interface that is gone is not one without peers.
func TestNotManaged(t *testing.T) {
	m := New("wg0", "", func() (Snapshot, error) { return Snapshot{}, nil })
	if _, text := scrape(t, m); !strings.Contains(text, `lazybpf_interface_managed{interface="wg0"} 0`+"\n") {
		t.Error(text)
	}
}

// TestDaemonCannotTell: an error, not numbers that are wrong.
func TestDaemonCannotTell(t *testing.T) {
	m := New("wg0", "", func() (Snapshot, error) { return Snapshot{}, errors.New("manager is closed") })
	if status, text := scrape(t, m); status != http.StatusInternalServerError || !strings.Contains(text, "manager is closed") {
		t.Errorf("status %d: %s", status, text)
	}
}
