// SPDX-License-Identifier: Apache-2.0

package control

import "time"

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

// Status is one interface with its peers: all of them, or those that a [Filter] has let through. Durations, here and below, are text as [time.Duration.String] writes it.
type Status struct {
	Interface           string    `json:"interface"`
	Attach              string    `json:"attach"` // "tcx" or "clsact"; empty: the interface is gone, and its peers with it
	InactivityThreshold string    `json:"inactivity_threshold"`
	Since               time.Time `json:"since"` // when the interface's peers began to be managed, or when it went
	Counts              Counts    `json:"counts"`
	Peers               []Peer    `json:"peers"`
}

// Counts is how many peers the interface has of each kind, whatever the filter. A permanent peer is counted as such and in no state.
type Counts struct {
	Idle       int `json:"idle"`
	Connecting int `json:"connecting"`
	Connected  int `json:"connected"`
	Permanent  int `json:"permanent"`
}

// Peer is a peer's state and what has been counted of it since the daemon started.
type Peer struct {
	PublicKey  string     `json:"public_key"`
	Name       string     `json:"name"`
	State      string     `json:"state"`
	Permanent  bool       `json:"permanent"`
	Evicted    bool       `json:"evicted,omitempty"` // idle, and removed from the interface until it wakes
	Endpoint   string     `json:"endpoint"`
	AllowedIPs []string   `json:"allowed_ips"`
	LastTx     *time.Time `json:"last_tx"` // nil: none yet
	LastRx     *time.Time `json:"last_rx"` // nil: none yet
	IdleIn     string     `json:"idle_in"` // whole seconds; empty when not connected, or permanent
	TxPackets  uint64     `json:"tx_packets"`
	TxBytes    uint64     `json:"tx_bytes"`
	RxPackets  uint64     `json:"rx_packets"`
	RxBytes    uint64     `json:"rx_bytes"`
	Wakes      uint64     `json:"wakes"`
	Held       uint64     `json:"held"`      // packets kept aside while connecting,
	Replayed   uint64     `json:"replayed"`  // of those, sent once connected,
	Dropped    uint64     `json:"dropped"`   // and given up
	LastWake   *Wake      `json:"last_wake"` // nil: never woken
	LastError  string     `json:"last_error"`
	RetryAt    *time.Time `json:"retry_at"` // nil: not holding off
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
	Reason string    `json:"reason"` // egress, ingress, request, group or start
	At     time.Time `json:"at"`
	Took   string    `json:"took"`
	Flow   string    `json:"flow"` // "tcp 10.0.0.1:41234 > 10.0.0.2:22"; empty when no packet was the reason
	UID    *uint32   `json:"uid"`  // of the sending socket; nil: unknown
}

// Event is one change of one peer's state. From is empty for a peer that was added, To for one that was removed.
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
	State     string `json:"state"` // afterwards
	Took      string `json:"took"`
	Error     string `json:"error"` // empty: done
}

// peersRequest is the body of wake, sleep, exclude and include.
type peersRequest struct {
	Peers []string `json:"peers"`
}
