// SPDX-License-Identifier: Apache-2.0

package lazy

import "time"

// input is what happens to a peer.
type input uint8

const (
	packet     input = iota // a packet of an armed peer
	request                 // somebody asks for the peer
	mate                    // another member of a group is active
	opened                  // the connector's Open has succeeded
	openFailed              // or not, or it takes too long
	deadline                // the state has lasted as long as it may
	sleep                   // somebody says that the peer goes idle
	exclude                 // it is permanent from now on
	include                 // it no longer is
	lost                    // the connection broke
	found                   // it is there, again or by itself
)

// action is what the manager does about an input.
type action uint8

const (
	nothing action = iota
	open           // have the connector open the peer
	settle         // connected: note the wake and watch the peer
	watch          // set the deadline: by the last activity, or the loss
	park           // arm the peer, look once more, have the connector close it
	giveUp         // drop what is held, leave the peer alone for a while
	rearm          // that while is over
	await          // the idle clock runs until the connection is back
	resume         // it is back
	evict          // have the connector take the idle peer off the device
)

// view is what a decision depends on.
type view struct {
	state      State
	permanent  bool
	backingOff bool      // idle after an Open that failed
	lost       bool      // connecting once more: its owner, not an Open, is at it
	mates      bool      // another member of one of its groups is active
	idleAt     time.Time // when a connected peer has been silent for its threshold
}

// decide is the state machine: the state that follows, and what to do.
func decide(v view, in input, now time.Time) (State, action) {
	needed := v.permanent || v.mates // whatever its own traffic
	switch v.state {
	case Idle:
		switch in {
		case packet, mate:
			if v.backingOff { // a straggler: no peer is armed that backs off
				return Idle, nothing
			}
			return Connecting, open
		case request, exclude, found:
			return Connecting, open
		case deadline:
			switch {
			case needed:
				return Connecting, open
			case v.backingOff:
				return Idle, rearm
			}
			return Idle, evict
		case opened: // after its time was up
			if needed {
				return Connected, settle
			}
			return Idle, park // nobody waits for it any longer
		}
	case Connecting:
		switch {
		case in == opened:
			return Connected, settle
		case in == openFailed:
			return Idle, giveUp
		case !v.lost: // the Open that is under way decides
		case in == found:
			return Connected, resume
		case (in == deadline || in == sleep) && !needed:
			return Idle, park
		case in == deadline || in == exclude || in == include:
			return Connecting, watch
		}
	case Connected:
		switch in {
		case deadline:
			if needed || now.Before(v.idleAt) {
				return Connected, watch
			}
			return Idle, park
		case sleep:
			if needed {
				return Connected, nothing
			}
			return Idle, park
		case exclude, include:
			return Connected, watch
		case lost:
			return Connecting, await
		}
	}
	return v.state, nothing
}
