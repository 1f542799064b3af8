// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/pkg/control"
)

// scrape reads the metrics of a daemon that runs.
func scrape(t *testing.T, address string) string {
	t.Helper()
	response, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestMetrics has a peer wake by a packet, another by hand and leave, and looks at what Prometheus sees.
func TestMetrics(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	add(t, n, far, "10.98.0.0/24")
	options := optionsFor(t, n)
	options.MetricsListen, options.Version = "127.0.0.1:0", "v1"
	d := manage(t, options)
	address := d.metricsListener.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		d.links = nil // stopped
		if c, err := net.Dial("tcp", address); err == nil {
			t.Error("somebody listens after the end")
			c.Close()
		}
	}()

	do(t, backend{d}.Sleep, there(n).String())
	ping(t, n, n.There.IPv4)
	expectState(t, d, there(n), control.StateConnected)
	do(t, backend{d}.Wake, "FarA")
	label := `{interface="` + n.Here.Name + `",`
	soon(t, "all is counted", func() bool {
		text := scrape(t, address)
		for _, want := range []string{
			`lazybpf_peers` + label + `state="connected"} 2`,
			`lazybpf_peers` + label + `state="permanent"} 0`,
			`lazybpf_interface_managed{interface="` + n.Here.Name + `"} 1`,
			`lazybpf_wakes_total` + label + `reason="egress"} 1`,
			`lazybpf_wakes_total` + label + `reason="request"} 1`,
			`lazybpf_wake_duration_seconds_count{interface="` + n.Here.Name + `"} 2`,
			`lazybpf_build_info` + label + `version="v1"} 1`,
			`allowed_ips="10.98.0.0/24",friendly_name="",interface="` + n.Here.Name + `",public_key="` + far.String() + `"} 0`,
		} {
			if !strings.Contains(text, want) {
				return false
			}
		}
		return strings.Contains(text, "wireguard_sent_bytes_total") && !strings.Contains(text, options.Control)
	})
}

func TestMetricsNowhereToListen(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	options := optionsFor(t, n)
	options.MetricsListen = l.Addr().String()
	_, err = New(t.Context(), options)
	if err == nil || !strings.Contains(err.Error(), "address already in use: give another address with --metrics-listen") {
		t.Errorf("error %v", err)
	}
}
