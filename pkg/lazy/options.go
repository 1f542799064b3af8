// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

// The errors of this package; test with errors.Is.
var (
	// ErrUnknownPeer: the manager has no peer of this key.
	ErrUnknownPeer = errors.New("unknown peer")
	// ErrPeerExists: the manager has a peer of this key already.
	ErrPeerExists = errors.New("peer exists")
	// ErrThreshold: an inactivity threshold is out of range.
	ErrThreshold = errors.New("inactivity threshold out of range")
	// ErrWakeMode: a wake mode is none that there is.
	ErrWakeMode = errors.New("unknown wake mode")
	// ErrStaysAwake: a peer cannot be put to sleep now; the message says why.
	ErrStaysAwake = errors.New("peer stays awake")
	// ErrTimeout: a connector call did not return in time.
	ErrTimeout = errors.New("timed out")
	// ErrClosed: the manager is closed.
	ErrClosed = errors.New("manager is closed")
)

// Detector tells which peers are talked to: see detect.Detector, which is one. It
// is called from several goroutines, and must not call the manager, which waits
// for it.
type Detector interface {
	Add(prefixes []netip.Prefix) (detect.ID, error)
	SetPrefixes(id detect.ID, prefixes []netip.Prefix) error
	SetRules(id detect.ID, rules []detect.Rule) error
	Remove(id detect.ID) error
	Arm(id detect.ID, hold bool) error
	Open(id detect.ID) error
	Discard(id detect.ID) error
	Activity(id detect.ID) (detect.Activity, error)
	Events() <-chan detect.Event
}

// Connector makes peers reachable. It is called from goroutines of the
// manager's, for one peer at most once at a time, for different peers at the
// same time. It may call the manager, but for Close.
type Connector interface {
	// Open makes the peer reachable: when it returns nil, what was held is
	// sent. It may run as long as Options.OpenTimeout; then, or when the peer is
	// removed or the manager closed, ctx ends. After an error the peer is left
	// alone for a while. Opening an open peer must do no harm. Where it takes
	// time to find the peer's endpoint, the peer may come by itself meanwhile:
	// see Answered. An Open that succeeds though ctx has ended is followed by a
	// Close, unless somebody needs the peer again, or it was removed: then nothing
	// follows.
	Open(ctx context.Context, peer Key, wake Wake) error
	// Close lets go of an idle peer: no keepalives, no NAT traversal. An error
	// is only reported; the peer stays idle.
	Close(ctx context.Context, peer Key) error
}

// ReadyConnector is a Connector for which some peers can be reached at any
// time, and Open only tends to them.
type ReadyConnector interface {
	Connector
	// Ready says whether packets can go to the peer before Open is called:
	// then those that are held do not wait for it.
	Ready(peer Key, wake Wake) bool
}

// EvictingConnector is a Connector that can take idle peers off the device, so
// that WireGuard itself has nothing of them. See Options.EvictAfter.
type EvictingConnector interface {
	Connector
	// Evict takes an idle, closed peer off the device; its packets are held
	// until Open, which has to put back all that the peer had: allowed IPs,
	// preshared key, endpoint, keepalive. A peer that still has a session, since its
	// last handshake is younger than MinEvictAfter, must stay: then again says
	// when to ask once more, and is zero for one that is gone. After an error
	// the peer must be as before; it is tried again after Options.EvictAfter. ctx
	// ends when the peer is needed: its Open waits for Evict.
	Evict(ctx context.Context, peer Key) (again time.Time, err error)
}

// Bounds and defaults of Options.
const (
	// MinThreshold is the shortest inactivity threshold: one second.
	MinThreshold = time.Second
	// DefaultThreshold is the inactivity threshold of a manager: 15 minutes.
	DefaultThreshold = 15 * time.Minute
	// DefaultOpenTimeout is how long an Open may take: 30 seconds.
	DefaultOpenTimeout = 30 * time.Second
	// DefaultMaxOpens is how many peers are opened at once: 64.
	DefaultMaxOpens = 64
	// MinEvictAfter is how long a peer must have been idle, at least, to be
	// evicted: 180 seconds, the life of a WireGuard session
	// (REJECT_AFTER_TIME in the WireGuard paper).
	MinEvictAfter = 180 * time.Second
)

// Options say how a manager works. Detector and Connector have no default.
type Options struct {
	Detector  Detector
	Connector Connector
	// InactivityThreshold is for peers without one of their own: at least
	// MinThreshold; 0 takes DefaultThreshold.
	InactivityThreshold time.Duration
	// Wake is for peers without a mode of their own.
	Wake WakeMode
	// OpenTimeout ends an Open that takes longer, and a Close or Evict; 0 takes
	// DefaultOpenTimeout.
	OpenTimeout time.Duration
	// MaxOpens bounds the Opens at once, and, for themselves, the Closes and
	// Evicts. Others wait their turn: first Opens that were asked for, then
	// those by packets and groups. 0 takes DefaultMaxOpens.
	MaxOpens int
	// WakeRate bounds the Opens by packets and groups, on average a second; 0
	// does not. Those that were asked for do not count. What waits is held in
	// WakeHold, and WireGuard's in WakePass.
	WakeRate float64
	// WakeBurst is how many of these may come at once after a quiet while; 0
	// takes WakeRate, and 1 at least.
	WakeBurst int
	// EvictAfter is how long peers are idle before they are taken off the
	// device, at least MinEvictAfter; 0 leaves them there. It takes an
	// EvictingConnector.
	EvictAfter time.Duration
}

// Validate returns an error that names the field and what it accepts:
// ErrThreshold if it is InactivityThreshold, ErrWakeMode if it is Wake.
func (o Options) Validate() error {
	_, evicts := o.Connector.(EvictingConnector)
	switch {
	case o.Detector == nil:
		return errors.New("option Detector: there must be one")
	case o.Connector == nil:
		return errors.New("option Connector: there must be one")
	case o.Wake > WakeHold:
		return fmt.Errorf("option Wake: %w: %d is none of WakeDefault, WakePass, WakeHold", ErrWakeMode, o.Wake)
	case o.OpenTimeout < 0:
		return fmt.Errorf("option OpenTimeout: %s is negative", o.OpenTimeout)
	case o.MaxOpens < 0:
		return fmt.Errorf("option MaxOpens: %d is negative", o.MaxOpens)
	case !(o.WakeRate >= 0): // not a number, too
		return fmt.Errorf("option WakeRate: %v is not at least 0", o.WakeRate)
	case o.WakeBurst < 0:
		return fmt.Errorf("option WakeBurst: %d is negative", o.WakeBurst)
	case o.EvictAfter != 0 && o.EvictAfter < MinEvictAfter:
		return fmt.Errorf("option EvictAfter: %s is shorter than %s", o.EvictAfter, MinEvictAfter)
	case o.EvictAfter != 0 && !evicts:
		return errors.New("option EvictAfter: the Connector must be an EvictingConnector")
	}
	if err := validThreshold(o.InactivityThreshold); err != nil {
		return fmt.Errorf("option InactivityThreshold: %w", err)
	}
	return nil
}

func (o Options) withDefaults() Options {
	if o.InactivityThreshold == 0 {
		o.InactivityThreshold = DefaultThreshold
	}
	if o.Wake == WakeDefault {
		o.Wake = WakePass
	}
	if o.OpenTimeout == 0 {
		o.OpenTimeout = DefaultOpenTimeout
	}
	if o.MaxOpens == 0 {
		o.MaxOpens = DefaultMaxOpens
	}
	if o.WakeBurst == 0 {
		o.WakeBurst = max(int(math.Ceil(min(o.WakeRate, math.MaxInt32))), 1)
	}
	return o
}

// validPeer checks what a peer's configuration says for itself.
func validPeer(p Peer) error {
	err := validThreshold(p.Threshold)
	if p.Wake > WakeHold {
		err = fmt.Errorf("%w: %d is none of WakeDefault, WakePass, WakeHold", ErrWakeMode, p.Wake)
	}
	if err != nil {
		return fmt.Errorf("peer %s: %w", p.Key, err)
	}
	return nil
}

// validThreshold accepts 0, which is the default, and what is long enough.
func validThreshold(d time.Duration) error {
	if d != 0 && d < MinThreshold {
		return fmt.Errorf("%w: %s is shorter than %s", ErrThreshold, d, MinThreshold)
	}
	return nil
}
