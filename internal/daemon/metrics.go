// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"net"
	"strings"

	"github.com/lazybpf/lazybpf/internal/metrics"
	"github.com/lazybpf/lazybpf/pkg/control"
	"github.com/lazybpf/lazybpf/pkg/detect"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// maxDetail is how many peers an interface may have for each of them to be in
// the metrics, unless Options.MetricsPeers asks for it.
const maxDetail = 1000

// past is what was counted of peers, and in sessions, that are no more.
type past struct {
	held, replayed, dropped uint64
	detector                detect.Stats
}

func (p *past) addPeer(a detect.Activity) {
	p.held += a.Held
	p.replayed += a.Replayed
	p.dropped += max(a.Dropped, a.Held-min(a.Held, a.Replayed)) // what waits goes with the peer
}

func (p *past) addSession(s *session) {
	peers, _ := s.manager.Peers() // none, if they are counted already
	for _, peer := range peers {
		p.addPeer(peer.Activity)
	}
	stats, _ := s.detector.Stats()
	p.detector = sum(p.detector, stats)
}

func sum(a, b detect.Stats) detect.Stats {
	return detect.Stats{
		Unrouted: a.Unrouted + b.Unrouted, Ignored: a.Ignored + b.Ignored,
		Malformed: a.Malformed + b.Malformed, EventsLost: a.EventsLost + b.EventsLost,
	}
}

// removePeer has a manager forget a peer, whose packets are of the past then.
func (d *Daemon) removePeer(m *lazy.Manager, key lazy.Key) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	last, _ := m.Peer(key)
	d.past.addPeer(last.Activity)
	return m.RemovePeer(key)
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
	// So that what peers have counted is either theirs or of the past.
	d.mu.Lock()
	defer d.mu.Unlock()
	s := metrics.Snapshot{
		Peers: make(map[string]int),
		Held:  d.past.held, Replayed: d.past.replayed, Dropped: d.past.dropped,
		Detector: d.past.detector,
	}
	for _, kind := range control.Kinds {
		s.Peers[kind] = 0
	}
	if d.session == nil {
		return s, nil
	}
	s.Managed = true
	peers, err := d.session.manager.Peers()
	if err != nil {
		return s, err
	}
	for _, p := range peers {
		s.Peers[kind(p)]++
		s.Held += p.Activity.Held
		s.Replayed += p.Activity.Replayed
		s.Dropped += p.Activity.Dropped
	}
	if len(peers) <= maxDetail || d.policy.Load().options.MetricsPeers {
		s.Detail = d.session.detail(peers)
	}
	stats, err := d.session.detector.Stats()
	s.Detector = sum(s.Detector, stats)
	return s, err
}

func (s *session) detail(peers []lazy.Status) []metrics.Peer {
	known, policy := s.peersNow(), s.d.policy.Load()
	all := make([]metrics.Peer, len(peers))
	for i, p := range peers {
		prefixes := make([]string, len(p.AllowedIPs))
		for j, prefix := range p.AllowedIPs {
			prefixes[j] = prefix.String()
		}
		device, _ := known.get(p.Key)
		all[i] = metrics.Peer{
			PublicKey: p.Key.String(), Name: policy.peers[p.Key].Name, AllowedIPs: strings.Join(prefixes, ","),
			State: p.State.String(), RxBytes: p.Activity.RxBytes, TxBytes: p.Activity.TxBytes,
			LastHandshake: device.LastHandshake,
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
