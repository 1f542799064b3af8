// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"net"
	"strings"
	"sync/atomic"

	"github.com/lazybpf/lazybpf/internal/control"
	"github.com/lazybpf/lazybpf/internal/metrics"
	"github.com/lazybpf/lazybpf/pkg/detect"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// maxDetail is how many peers an interface may have for each of them to be in
// the metrics, unless Options.MetricsPeers asks for it.
const maxDetail = 1000

// counts are packets of the peers that are no more.
type counts struct{ held, replayed, dropped atomic.Uint64 }

func (c *counts) add(a detect.Activity) {
	c.held.Add(a.Held)
	c.replayed.Add(a.Replayed)
	c.dropped.Add(a.Dropped)
}

// listenMetrics opens the socket for Prometheus, if there is to be one.
func (d *Daemon) listenMetrics() error {
	if d.options.MetricsListen == "" {
		return nil
	}
	l, err := net.Listen("tcp", d.options.MetricsListen)
	if err != nil {
		return fmt.Errorf("metrics: %w: give another address with --metrics-listen", err)
	}
	d.metricsListener = l
	return nil
}

// snapshot is what metrics say of the moment, from memory alone.
func (d *Daemon) snapshot() (metrics.Snapshot, error) {
	peers, err := d.manager.Peers()
	if err != nil {
		return metrics.Snapshot{}, err
	}
	s := metrics.Snapshot{
		Peers: make(map[string]int),
		Held:  d.gone.held.Load(), Replayed: d.gone.replayed.Load(), Dropped: d.gone.dropped.Load(),
	}
	for _, kind := range control.Kinds {
		s.Peers[kind] = 0
	}
	for _, p := range peers {
		s.Peers[kind(p)]++
		s.Held += p.Activity.Held
		s.Replayed += p.Activity.Replayed
		s.Dropped += p.Activity.Dropped
	}
	if len(peers) <= maxDetail || d.policy.Load().options.MetricsPeers {
		s.Detail = d.detail(peers)
	}
	s.Detector, err = d.detector.Stats()
	return s, err
}

func (d *Daemon) detail(peers []lazy.Status) []metrics.Peer {
	known, policy := d.peersNow(), d.policy.Load()
	all := make([]metrics.Peer, len(peers))
	for i, p := range peers {
		prefixes := make([]string, len(p.AllowedIPs))
		for j, prefix := range p.AllowedIPs {
			prefixes[j] = prefix.String()
		}
		all[i] = metrics.Peer{
			PublicKey: p.Key.String(), Name: policy.peers[p.Key].Name, AllowedIPs: strings.Join(prefixes, ","),
			State: p.State.String(), RxBytes: p.Activity.RxBytes, TxBytes: p.Activity.TxBytes,
			LastHandshake: known[p.Key].LastHandshake,
		}
	}
	return all
}

// kind is what a peer is counted as: permanent, or else its state.
func kind(p lazy.Status) string {
	if p.Permanent {
		return control.KindPermanent
	}
	return p.State.String()
}
