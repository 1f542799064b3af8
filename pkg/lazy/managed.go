// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"container/list"
	"net/netip"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

// peer is a peer of the manager's. There may be a million of them, nearly all of
// which sleep and were never anything else: what only few need is behind a
// pointer.
type peer struct {
	Key        Key
	AllowedIPs []netip.Prefix
	*settings

	id         detect.ID
	state      State
	permanent  bool
	backingOff bool // idle after an Open that failed
	lost       bool // connecting once more after its connection broke
	evicted    bool // off the device, or about to be
	holding    bool // idle, and armed so that its packets are held
	next       call // waits for another call to return, or for its turn
	urgent     bool // next is an Open that somebody has asked for

	idleSince time.Time // events of before are not of this dormancy
	deadline  int       // where it stands in the deadlines

	// Read, it is always there. Who writes to it calls stir first.
	*past
}

// settings are what a peer's configuration may say beyond key and allowed IPs.
// They are replaced, never changed.
type settings struct {
	Threshold time.Duration
	Wake      WakeMode
	Groups    []string
	Rules     []detect.Rule
}

// noSettings are those of all peers whose configuration says nothing.
var noSettings settings

// configure makes the peer what the configuration says.
func (p *peer) configure(config Peer) {
	p.Key, p.AllowedIPs = config.Key, config.AllowedIPs
	p.set(settings{config.Threshold, config.Wake, distinct(config.Groups), config.Rules})
}

func (p *peer) set(s settings) {
	p.settings = &noSettings
	if s.Threshold != 0 || s.Wake != WakeDefault || len(s.Groups)+len(s.Rules) > 0 {
		p.settings = &s
	}
}

// config is what the peer was configured with last.
func (p *peer) config() Peer {
	return Peer{p.Key, p.AllowedIPs, p.Threshold, p.Wake, p.Groups, p.Rules}
}

// past is what only a peer has for which something was done: most never wake.
type past struct {
	since     time.Time // when it became connected, or its connection broke
	failures  int       // Opens that failed in a row
	wakes     uint64
	wake      *Wake  // the last one, nil if there was none
	received  uint64 // packets from the peer by then
	lastError error

	turn  *list.Element // in turns, nil if it waits in none
	turns *list.List
}

// noPast is that of all peers that have none, and stays as it is.
var noPast past

// stir gives the peer a past of its own.
func (p *peer) stir() *past {
	if p.past == &noPast {
		p.past = new(past)
	}
	return p.past
}

// watched says whether the peer is parked after a while, unless it is permanent.
func (p *peer) watched() bool { return p.state == Connected || p.lost }

func (p *peer) lastWake() Wake {
	if p.wake == nil {
		return Wake{}
	}
	return *p.wake
}
