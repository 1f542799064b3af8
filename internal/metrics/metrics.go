// SPDX-License-Identifier: Apache-2.0

// Package metrics shows a daemon to Prometheus.
//
// What happens is counted when it happens (wakes, failures, drift); what is, is
// read when it is asked for (states, packets), from the daemon's memory. Per
// peer there are the names that prometheus_wireguard_exporter uses, so that its
// dashboards and alerts go on working.
package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lazybpf/lazybpf/pkg/detect"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// Snapshot is an interface at one moment.
type Snapshot struct {
	Managed                 bool           // false: the interface is gone, or cannot be managed yet
	Peers                   map[string]int // how many, by state: idle, connecting, connected, permanent
	Held, Replayed, Dropped uint64         // packets, of all peers that there have been
	Detector                detect.Stats
	Detail                  []Peer // empty: not wanted
}

// Peer is one peer at that moment.
type Peer struct {
	PublicKey, Name, AllowedIPs string
	State                       string
	RxBytes, TxBytes            uint64
	LastHandshake               time.Time // zero: none yet
}

// Metrics are those of one interface. The methods may be called from any goroutine.
type Metrics struct {
	registry *prometheus.Registry
	wakes    *prometheus.CounterVec
	took     prometheus.Histogram
	failures prometheus.Counter
	drift    prometheus.Counter
	changes  *prometheus.CounterVec
	reading  prometheus.Gauge
}

// New makes the metrics of an interface, whose snapshots come from read.
func New(iface, version string, read func() (Snapshot, error)) *Metrics {
	registry := prometheus.NewRegistry()
	factory := prometheus.WrapRegistererWith(prometheus.Labels{"interface": iface}, registry)
	m := &Metrics{
		registry: registry,
		wakes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lazybpf_wakes_total", Help: "Peers that became connected, by the reason why they woke.",
		}, []string{"reason"}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "lazybpf_wake_duration_seconds", Help: "From the packet or request that woke a peer until it was connected.",
			Buckets: []float64{1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 20, 30},
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lazybpf_wake_failures_total", Help: "Wakes of peers that could not be opened.",
		}),
		drift: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lazybpf_drift_total", Help: "Settings of peers that somebody else has changed, and that were adopted.",
		}),
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lazybpf_peer_changes_total", Help: "Peers that somebody has added to the interface, changed or removed.",
		}, []string{"change"}),
		reading: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "lazybpf_device_read_seconds", Help: "How long the last reading of the WireGuard device took.",
		}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "lazybpf_build_info", Help: "1, labelled with the version.", ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	// A counter that begins with its first count has no rate that shows it.
	for reason := lazy.ReasonEgress; reason <= lazy.ReasonGroup; reason++ {
		m.wakes.WithLabelValues(reason.String())
	}
	m.Changed(0, 0, 0)
	factory.MustRegister(m.wakes, m.took, m.failures, m.drift, m.changes, m.reading, build, snapshots{read})
	return m
}

// Woke counts a peer that became connected.
func (m *Metrics) Woke(reason string, took time.Duration) {
	m.wakes.WithLabelValues(reason).Inc()
	m.took.Observe(took.Seconds())
}

// Failed counts a peer that could not be opened.
func (m *Metrics) Failed() { m.failures.Inc() }

// Drifted counts settings that somebody else has changed.
func (m *Metrics) Drifted(n int) { m.drift.Add(float64(n)) }

// Changed counts peers that somebody else has added, changed or removed.
func (m *Metrics) Changed(added, changed, removed int) {
	m.changes.WithLabelValues("added").Add(float64(added))
	m.changes.WithLabelValues("changed").Add(float64(changed))
	m.changes.WithLabelValues("removed").Add(float64(removed))
}

// Read notes how long it took to read the device.
func (m *Metrics) Read(took time.Duration) { m.reading.Set(took.Seconds()) }

// snapshots is a collector of what there is at the moment.
type snapshots struct{ read func() (Snapshot, error) }

var (
	managedDesc  = prometheus.NewDesc("lazybpf_interface_managed", "1 if the interface's peers are managed, 0 while the interface is gone: lazybpf waits for another of its name.", nil, nil)
	peersDesc    = prometheus.NewDesc("lazybpf_peers", "Peers by state; permanent ones are in no other.", []string{"state"}, nil)
	packetsDesc  = prometheus.NewDesc("lazybpf_held_packets_total", "Packets held back while their peer slept, by what became of them; those missing from replayed and dropped wait.", []string{"fate"}, nil)
	detectorDesc = prometheus.NewDesc("lazybpf_detector_packets_total", "Packets on the interface that count for no peer, and events_lost: those that found the ring buffer full, in place of which the next one woke the peer.", []string{"kind"}, nil)

	peerLabels    = []string{"public_key", "allowed_ips", "friendly_name"}
	sentDesc      = prometheus.NewDesc("wireguard_sent_bytes_total", "Payload sent to the peer since lazybpf started, with IP headers.", peerLabels, nil)
	receivedDesc  = prometheus.NewDesc("wireguard_received_bytes_total", "Payload received from the peer since lazybpf started, with IP headers.", peerLabels, nil)
	handshakeDesc = prometheus.NewDesc("wireguard_latest_handshake_seconds", "Unix time of the peer's latest handshake, 0 if there was none.", peerLabels, nil)
	stateDesc     = prometheus.NewDesc("lazybpf_peer_awake", "1 if the peer is connected or connecting, 0 if it sleeps.", peerLabels, nil)
)

func (snapshots) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{managedDesc, peersDesc, packetsDesc, detectorDesc, sentDesc, receivedDesc, handshakeDesc, stateDesc} {
		to <- desc
	}
}

func (s snapshots) Collect(to chan<- prometheus.Metric) {
	snapshot, err := s.read()
	if err != nil {
		to <- prometheus.NewInvalidMetric(peersDesc, err)
		return
	}
	send := func(desc *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, kind, value, labels...)
	}
	send(managedDesc, prometheus.GaugeValue, oneIf(snapshot.Managed))
	for state, n := range snapshot.Peers {
		send(peersDesc, prometheus.GaugeValue, float64(n), state)
	}
	for fate, n := range map[string]uint64{"held": snapshot.Held, "replayed": snapshot.Replayed, "dropped": snapshot.Dropped} {
		send(packetsDesc, prometheus.CounterValue, float64(n), fate)
	}
	for kind, n := range map[string]uint64{
		"unrouted": snapshot.Detector.Unrouted, "ignored": snapshot.Detector.Ignored,
		"malformed": snapshot.Detector.Malformed, "events_lost": snapshot.Detector.EventsLost,
	} {
		send(detectorDesc, prometheus.CounterValue, float64(n), kind)
	}
	for _, p := range snapshot.Detail {
		labels := []string{p.PublicKey, p.AllowedIPs, p.Name}
		send(sentDesc, prometheus.CounterValue, float64(p.TxBytes), labels...)
		send(receivedDesc, prometheus.CounterValue, float64(p.RxBytes), labels...)
		handshake := 0.0
		if !p.LastHandshake.IsZero() {
			handshake = float64(p.LastHandshake.Unix())
		}
		send(handshakeDesc, prometheus.GaugeValue, handshake, labels...)
		send(stateDesc, prometheus.GaugeValue, oneIf(p.State != "idle"), labels...)
	}
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
