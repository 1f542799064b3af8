// SPDX-License-Identifier: Apache-2.0

package lazy

import "time"

// input is what happens to a peer.
type input uint8

const (
	packet     input = iota // a packet of an armed peer
	request                 // somebody asks for the peer
	opened                  // the connector's Open has succeeded
	openFailed              // or not
	deadline                // the state has lasted as long as it may
	sleep                   // somebody says that the peer goes idle
	exclude                 // it is permanent from now on
	include                 // it no longer is
)

// action is what the manager does about an input.
type action uint8

const (
	nothing action = iota
	open           // have the connector open the peer
	settle         // connected: note the wake and watch the peer
	watch          // set the deadline by the last activity
	park           // arm the peer, look once more, have the connector close it
	giveUp         // drop what is held, leave the peer alone for a while
	rearm          // that while is over
)

// view is what a decision depends on.
type view struct {
	state      State
	permanent  bool
	backingOff bool      // idle after an Open that failed
	idleAt     time.Time // when a connected peer has been silent for its threshold
}

// decide is the state machine: the state that follows, and what to do.
func decide(v view, in input, now time.Time) (State, action) {
	switch v.state {
	case Idle:
		switch in {
		case packet:
			if v.backingOff {
				return Idle, nothing // a straggler: no peer is armed that backs off
			}
			return Connecting, open
		case request, exclude:
			return Connecting, open
		case deadline: // the back-off is over
			if v.permanent {
				return Connecting, open
			}
			return Idle, rearm
		case opened: // after its time was up
			if v.permanent {
				return Connected, settle
			}
			return Idle, park // nobody waits for it any longer
		}
	case Connecting:
		switch in {
		case opened:
			return Connected, settle
		case openFailed, deadline:
			return Idle, giveUp
		}
	case Connected:
		switch in {
		case deadline:
			if v.permanent || now.Before(v.idleAt) {
				return Connected, watch
			}
			return Idle, park
		case sleep:
			if v.permanent {
				return Connected, nothing
			}
			return Idle, park
		case exclude, include:
			return Connected, watch
		}
	}
	return v.state, nothing
}
