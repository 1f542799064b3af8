// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

// Key is a peer's WireGuard public key.
type Key [32]byte

// ParseKey reads a key in base64, as wg(8) writes it.
func ParseKey(s string) (Key, error) {
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(raw) != len(Key{}) {
		return Key{}, fmt.Errorf("%q is no public key: that is 44 characters of base64", s)
	}
	return Key(raw), nil
}

// String is the key in base64, as wg(8) writes it.
func (k Key) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// MarshalText writes a key in base64.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads a key in base64.
func (k *Key) UnmarshalText(text []byte) (err error) {
	*k, err = ParseKey(string(text))
	return err
}

// Short is the first 8 characters of String, to name a peer to people.
func (k Key) Short() string { return k.String()[:8] }

// State is what a peer is doing. The zero State is that of a peer the manager
// does not have.
type State uint8

// The states.
const (
	// Idle: dormant. The next packet, or a request, wakes the peer.
	Idle State = iota + 1
	// Connecting: the connector opens the peer, or will when its turn comes.
	Connecting
	// Connected: open, and watched for inactivity unless it is permanent.
	Connected
)

var stateNames = [...]string{"", "idle", "connecting", "connected"}

// String returns "idle", "connecting" or "connected", and "" for no state.
func (s State) String() string { return stateNames[s] }

// Reason is why a peer woke.
type Reason uint8

// The reasons.
const (
	ReasonEgress  Reason = iota + 1 // a packet to the peer
	ReasonIngress                   // a packet from the peer
	ReasonRequest                   // ActivatePeer, ReportConnected, or the exclude list
	ReasonStart                     // it was active when it was added
	ReasonGroup                     // another member of a group of its own
)

var reasonNames = [...]string{"", "egress", "ingress", "request", "start", "group"}

// String returns "egress", "ingress", "request", "start" or "group", and ""
// for none.
func (r Reason) String() string { return reasonNames[r] }

// Wake is one wake of a peer.
type Wake struct {
	Reason Reason
	// Time of the packet, or of the request.
	Time time.Time
	// Took is how long it was from then until the peer was connected and its
	// held packets sent; zero while it is connecting.
	Took time.Duration
	// Event describes the packet, if one woke the peer, or the member of its
	// group that woke first.
	Event detect.Event
}

// WakeMode says what happens to the packet that wakes a peer.
type WakeMode uint8

// The wake modes.
const (
	// WakeDefault is the manager's mode in a Peer, and WakePass in Options.
	WakeDefault WakeMode = iota
	// WakePass lets the packet pass: WireGuard knows the peer's endpoint, and
	// keeps the packet itself during the handshake.
	WakePass
	// WakeHold keeps the packet, and those after it, until Connector.Open has
	// returned: for peers whose endpoint has to be found first.
	WakeHold
)

// Peer is what the manager is told of a peer. The manager keeps the slices and
// returns them with a peer's status: nobody may change what is in them.
type Peer struct {
	Key Key
	// AllowedIPs as WireGuard has them for this peer.
	AllowedIPs []netip.Prefix
	// Threshold is how long the peer must be silent, in both directions, to be
	// parked: at least MinThreshold; 0 takes Options.InactivityThreshold.
	Threshold time.Duration
	// Wake says what happens to the packet that wakes the peer.
	Wake WakeMode
	// Groups that the peer is a member of: routers of one network, say. When
	// one member wakes the others are opened as well, and none is parked while
	// another is active: connecting or talked to, within its own threshold.
	Groups []string
	// Rules say what counts as activity, before those of the detector's
	// interface: at most detect.MaxRules.
	Rules []detect.Rule
}

// Status is what the manager knows of a peer.
type Status struct {
	Peer
	State     State
	Permanent bool // on the exclude list
	Evicted   bool // idle, and off the device
	Activity  detect.Activity
	// IdleSince is when an idle peer was put to sleep, or added; zero for others,
	// and while one is left alone after its Open failed.
	IdleSince time.Time
	// IdleAt is when a connected peer will be parked if it and its groups stay
	// silent, and one whose connection broke if it is not back; zero for other
	// and permanent peers.
	IdleAt time.Time
	// Wakes counts how often the peer became connected.
	Wakes    uint64
	LastWake Wake // its Reason is 0 if there was none
	// LastError is why the last Open, Close or Evict failed; nil if it did not.
	LastError error
	// RetryAt is until when a peer whose Open failed is left alone; else zero.
	RetryAt time.Time
}

// Change is one step of a peer from state to state.
type Change struct {
	Time     time.Time
	Key      Key
	From, To State // zero: the peer was added, or removed
	// Wake is why the peer became connecting or connected. Its Reason is 0 for
	// the way back, and where a connection breaks or is back.
	Wake Wake
	// Err is why the peer could not be opened, if that is the change.
	Err error
}
