// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"slices"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

// model is what a manager ought to do, told as simply as it can be: without
// goroutines, timers or a heap, with one call for each thing that happens. This
// file has what is done to a manager, model_states_test.go what becomes of a peer,
// model_calls_test.go whose turn it is, model_time_test.go what happens by itself.
type model struct {
	options  Options
	now      time.Time
	peers    map[byte]*modelPeer
	excluded map[byte]bool
	manners  map[byte]manners // of the connector with each peer
	races    map[byte]race

	calls  map[byte]*modelCall // that run, by the peer's number
	queue  []*modelPeer        // that want a call and have none, in order
	tokens tokens              // for Opens by packets and groups
	begun  map[call]map[byte]int

	returned []*modelCall // results on their way
	raised   []raised     // and events

	// Where the order of things that happen at once is nobody's business, the
	// manager's: in which it has woken peers, and armed them.
	woken, armed []byte
}

type modelPeer struct {
	n         byte
	threshold time.Duration // 0: the manager's
	mode      WakeMode
	groups    []string

	state     State
	permanent bool
	lost      bool // connecting because the connection broke
	evicted   bool
	record    fakePeer  // the detector's
	since     time.Time // connected, or without its connection
	idleSince time.Time
	evictAt   time.Time
	wake      Reason
	wokenAt   time.Time
	wakes     uint64
	err       error

	failures int
	failedAt time.Time // zero unless it backs off
	retryAt  time.Time // by chance: told by the manager

	next   call // that it wants
	urgent bool
}

func newModel(options Options) *model {
	m := &model{
		now:      time.Now(),
		peers:    make(map[byte]*modelPeer),
		excluded: make(map[byte]bool),
		manners:  make(map[byte]manners),
		races:    make(map[byte]race),
		calls:    make(map[byte]*modelCall),
		begun:    map[call]map[byte]int{callOpen: {}, callClose: {}, callEvict: {}},
	}
	m.tokens = newTokens(options.withDefaults())
	m.setOptions(options)
	return m
}

func (m *model) setOptions(options Options) {
	before := m.options
	m.options = options.withDefaults()
	if m.options.WakeRate != before.WakeRate || m.options.WakeBurst != before.WakeBurst {
		m.tokens = newTokens(m.options)
	}
	for _, p := range m.dormant() {
		m.setGate(p)
		if m.options.EvictAfter != before.EvictAfter {
			m.evictLater(p, later(p.idleSince.Add(m.options.EvictAfter), m.now))
		}
	}
	m.follow()
}

func (m *model) add(config Peer, connected bool) {
	p := &modelPeer{n: config.Key[0], state: Idle}
	m.peers[p.n] = p
	m.configure(p, config)
	p.permanent = m.excluded[p.n]
	switch {
	case connected:
		p.state, p.since, p.wake, p.wokenAt = Connected, m.now, ReasonStart, m.now
	default:
		m.arm(p)
		if p.permanent {
			m.wakeUp(p, ReasonRequest)
		}
	}
	m.rally(p.groups)
	m.follow()
}

func (m *model) configure(p *modelPeer, config Peer) {
	p.threshold, p.mode, p.groups = config.Threshold, config.Wake, distinct(config.Groups)
}

func (m *model) update(config Peer) {
	p := m.peers[config.Key[0]]
	m.configure(p, config)
	if slices.Contains(m.dormant(), p) {
		m.setGate(p)
	}
	m.rally(p.groups)
	m.follow()
}

func (m *model) setGroups(members map[string][]byte) {
	for n, p := range m.peers {
		p.groups = nil
		for name, numbers := range members {
			if slices.Contains(numbers, n) {
				p.groups = append(p.groups, name)
			}
		}
		slices.Sort(p.groups)
	}
	m.rally(groupNames)
	m.follow()
}

func (m *model) remove(n byte) {
	m.unqueue(m.peers[n])
	delete(m.peers, n)
	if c := m.calls[n]; c != nil {
		m.abandon(c)
	}
	m.follow()
}

func (m *model) activate(n byte) {
	p := m.peers[n]
	p.failures = 0
	if p.next == callOpen && !p.urgent {
		p.urgent = true
		m.want(p, callOpen)
	}
	if p.state == Idle {
		m.wakeUp(p, ReasonRequest)
	}
	m.follow()
}

func (m *model) deactivate(n byte) (sleeps bool) {
	p := m.peers[n]
	if (p.state == Connected || p.lost) && !m.needed(p) {
		m.park(p)
	}
	sleeps = p.state == Idle // though its next packet may be here already
	m.follow()
	return sleeps
}

func (m *model) reportDisconnected(n byte) {
	if p := m.peers[n]; p.state == Connected {
		p.state, p.lost, p.since = Connecting, true, m.now
	}
}

func (m *model) reportConnected(n byte) {
	p := m.peers[n]
	switch {
	case p.lost:
		p.state, p.lost, p.since = Connected, false, m.now
	case p.state == Idle:
		m.wakeUp(p, ReasonRequest)
	}
	m.follow()
}

func (m *model) exclude(list []byte) (added []byte) {
	before := m.excluded
	m.excluded = make(map[byte]bool)
	for _, n := range list {
		if m.peers[n] != nil && !before[n] && !m.excluded[n] {
			added = append(added, n)
		}
		m.excluded[n] = true
	}
	for n, p := range m.peers {
		if before[n] && !m.excluded[n] {
			p.permanent, p.since = false, m.now
		}
	}
	for _, n := range added {
		p := m.peers[n]
		p.permanent = true
		if p.state == Idle {
			m.wakeUp(p, ReasonRequest)
		}
	}
	m.follow()
	return added
}

func (m *model) packet(n byte, direction detect.Direction) {
	if p := m.peers[n]; p != nil {
		m.pass(p, direction)
	}
	m.follow()
}

// answer ends the call that runs for the peer.
func (m *model) answer(n byte, err error) {
	m.returns(m.calls[n], err)
	m.follow()
}
