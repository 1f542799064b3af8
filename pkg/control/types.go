// SPDX-License-Identifier: Apache-2.0

package control

import (
	"encoding/json"
	"io"
	"time"
)

// The states of a peer, as they stand in [Peer], [Event] and [Result].
const (
	StateIdle       = "idle"
	StateConnecting = "connecting"
	StateConnected  = "connected"
)

// KindPermanent is the [Peer.Kind] of a peer that never sleeps, whatever its state.
const KindPermanent = "permanent"

// Kinds are what a peer can be counted as, and a [Filter] can ask for.
var Kinds = []string{StateIdle, StateConnecting, StateConnected, KindPermanent}

// Status is one interface with its peers: all of them, or those that a
// [Filter] has let through.
//
// Durations, here and below, are text as [time.Duration.String] writes it and
// [time.ParseDuration] reads it. Those of packets are up to 21 ms early: their
// clock ticks.
type Status struct {
	Interface           string    `json:"interface"`
	Attach              string    `json:"attach"`               // how programs are attached: "tcx" or "clsact"; empty: the interface is gone, and its peers with it
	InactivityThreshold string    `json:"inactivity_threshold"` // the interface's; a peer may have its own
	Since               time.Time `json:"since"`                // when the interface's peers began to be managed, or when it went
	Counts              Counts    `json:"counts"`
	Peers               []Peer    `json:"peers"` // by public key
}

// Counts is how many peers the interface has of each kind, whatever the filter.
// A permanent peer is counted as such and in no state.
type Counts struct {
	Idle       int `json:"idle"`
	Connecting int `json:"connecting"`
	Connected  int `json:"connected"`
	Permanent  int `json:"permanent"`
}

// Peer is a peer's state and what has been counted of it since the daemon
// started.
type Peer struct {
	PublicKey  string     `json:"public_key"`        // base64, as wg(8) writes it
	Name       string     `json:"name"`              // in the daemon's configuration; empty: none
	State      string     `json:"state"`             // StateIdle, StateConnecting or StateConnected
	Permanent  bool       `json:"permanent"`         // excluded from sleeping
	Evicted    bool       `json:"evicted,omitempty"` // idle, and removed from the interface until it wakes
	Endpoint   string     `json:"endpoint"`          // "192.0.2.1:51820"; empty: WireGuard has none
	AllowedIPs []string   `json:"allowed_ips"`       // in CIDR notation, ascending
	LastTx     *time.Time `json:"last_tx"`           // of a packet to the peer that counts as activity; nil: none yet
	LastRx     *time.Time `json:"last_rx"`           // the same of packets from the peer
	IdleIn     string     `json:"idle_in"`           // whole seconds until it sleeps; empty when not connected, or permanent
	TxPackets  uint64     `json:"tx_packets"`        // to the peer, inside the tunnel
	TxBytes    uint64     `json:"tx_bytes"`
	RxPackets  uint64     `json:"rx_packets"` // from the peer
	RxBytes    uint64     `json:"rx_bytes"`
	Wakes      uint64     `json:"wakes"`      // how often it became connected
	Held       uint64     `json:"held"`       // packets kept aside while connecting,
	Replayed   uint64     `json:"replayed"`   // of those, sent once connected,
	Dropped    uint64     `json:"dropped"`    // and given up
	LastWake   *Wake      `json:"last_wake"`  // nil: never woken
	LastError  string     `json:"last_error"` // why it could not be connected or parked the last time; empty: it could
	RetryAt    *time.Time `json:"retry_at"`   // until when packets do not wake it, after it could not be connected; nil: they do
}

// Kind is what the peer is counted as: permanent, or else its state.
func (p Peer) Kind() string {
	if p.Permanent {
		return KindPermanent
	}
	return p.State
}

// Wake is why a peer left idle, and how long it took to connect.
type Wake struct {
	Reason string    `json:"reason"` // "egress", "ingress", "request", "group" or "start"
	At     time.Time `json:"at"`     // of the packet, or of the request
	Took   string    `json:"took"`   // until it was connected and its held packets sent; empty: not yet, or it was at once
	Flow   string    `json:"flow"`   // "tcp 10.0.0.1:41234 > 10.0.0.2:22"; empty when no packet was the reason
	UID    *uint32   `json:"uid"`    // of the sending socket; nil: unknown
}

// Event is one change of one peer's state. From is empty for a peer that was
// added, To for one that was removed. Reason, Flow and UID are those of its
// [Wake], and empty where the peer does not wake.
type Event struct {
	Time      time.Time `json:"time"`
	Interface string    `json:"interface"`
	PublicKey string    `json:"public_key"`
	From      string    `json:"from"`
	To        string    `json:"to"`
	Reason    string    `json:"reason"`
	Flow      string    `json:"flow"`
	UID       *uint32   `json:"uid"` // nil: unknown
}

// Result is what became of one peer that a request named.
type Result struct {
	Peer      string `json:"peer"` // as the request named it
	PublicKey string `json:"public_key"`
	State     string `json:"state"` // afterwards; empty: it is gone
	Took      string `json:"took"`  // to connect, if it was Wake that connected it; else empty
	Error     string `json:"error"` // empty: done
}

// Request is the body of wake, sleep, exclude and include.
type Request struct {
	Peers []string `json:"peers"`
}

// NewEncoder writes JSON as the daemon does: one value a line, and the > of a
// flow as it is.
func NewEncoder(w io.Writer) *json.Encoder {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc
}
