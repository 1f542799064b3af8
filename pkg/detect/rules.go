// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"fmt"
	"maps"

	"github.com/cilium/ebpf"
)

// Effect says what a packet counts as. It is a set of two bits.
type Effect uint8

// The effects. Whatever the effect is, a packet counts in the peer's packets
// and bytes.
const (
	Ignored    Effect = 0                  // neither wakes nor keeps awake
	Wakes      Effect = 1                  // raises the event of an armed peer, does not show as its last activity
	KeepsAwake Effect = 2                  // shows as the peer's last activity, raises no event
	Counts            = Wakes | KeepsAwake // both, as without a rule
)

// RuleDirection says which packets a rule is about.
type RuleDirection uint8

// The directions of a rule.
const (
	EitherDirection RuleDirection = 0
	EgressOnly      RuleDirection = 1 << Egress  // packets to the peer
	IngressOnly     RuleDirection = 1 << Ingress // packets from the peer
)

// PortRange is the ports from First to Last, both included.
type PortRange struct{ First, Last uint16 }

// Rule says what packets count as, by Effect, that match all of its other fields;
// of those a zero one matches any packet. The zero Rule ignores all.
type Rule struct {
	Effect    Effect
	Direction RuleDirection
	// Protocol is the IP protocol number, in IPv6 that behind up to seven
	// extension headers.
	Protocol uint8
	// Ports have the packet's source or destination port among them: of TCP,
	// UDP, UDP-Lite, SCTP and DCCP. Fragments other than the first have none.
	Ports PortRange
}

// MaxRules is how many rules a peer has at most, and how many an interface.
const MaxRules = len(bpfRuleSet{}.Rules)

// maxRuleSets is how many different sets of rules there are room for in the map
// "rules". Its first place stands for no rules.
const maxRuleSets = 255

// ValidateRules returns nil if a peer or an interface can have these rules.
// Error: ErrRule, with the rule's number, the field and what it accepts.
func ValidateRules(rules []Rule) error {
	if len(rules) > MaxRules {
		return fmt.Errorf("%w: %d rules, at most %d are possible", ErrRule, len(rules), MaxRules)
	}
	for i, r := range rules {
		if err := r.validate(); err != nil {
			return fmt.Errorf("%w %d: %w", ErrRule, i+1, err)
		}
	}
	return nil
}

func (r Rule) validate() error {
	switch {
	case r.Effect > Counts:
		return fmt.Errorf("field Effect: %d is not within %d to %d", r.Effect, Ignored, Counts)
	case r.Direction > IngressOnly:
		return fmt.Errorf("field Direction: %d is none of EitherDirection, EgressOnly, IngressOnly", r.Direction)
	case r.Ports.First > r.Ports.Last:
		return fmt.Errorf("field Ports: %d to %d is no range of ports; a single one is both First and Last", r.Ports.First, r.Ports.Last)
	case r.Ports != PortRange{} && r.Protocol != 0 && !hasPorts(r.Protocol):
		return fmt.Errorf("field Ports: protocol %d has no ports; TCP, UDP, UDP-Lite, SCTP and DCCP do", r.Protocol)
	}
	return nil
}

// encode returns rules as the programs want them.
func encode(rules []Rule) bpfRuleSet {
	var set bpfRuleSet
	for i, r := range rules {
		if r.Direction == EitherDirection {
			r.Direction = EgressOnly | IngressOnly
		}
		set.Rules[i] = bpfRule{
			FirstPort:  r.Ports.First,
			LastPort:   r.Ports.Last,
			Protocol:   r.Protocol,
			Directions: uint8(r.Direction),
			Effect:     uint8(r.Effect),
		}
	}
	return set
}

// SetRules replaces a peer's rules, at first none. A packet counts as the first
// of them says that matches it, else as the first of the interface's, else as
// Counts. Peers with equal rules share them: there may be 255 different lists,
// the interface's among them. Errors: ErrRule, ErrUnknownPeer, ErrClosed; then
// nothing has changed.
func (d *Detector) SetRules(id ID, rules []Rule) error {
	if err := ValidateRules(rules); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	_, r, err := d.peer(id)
	if err != nil {
		return err
	}
	set, err := d.rules.acquire(d.shared.Rules, rules)
	if err != nil {
		return err
	}
	d.changeRules(r, set)
	return nil
}

// changeRules exchanges a record's set of rules by one store, so that a packet
// finds the old or the new one. The caller holds d.mu.
func (d *Detector) changeRules(r *bpfPeer, set uint8) {
	before := uint8(r.Rules)
	publish()
	r.Rules = uint16(set)
	d.rules.release(before)
}

// SetInterfaceRules replaces the rules of Options. Errors: ErrRule, ErrClosed;
// then nothing has changed.
func (d *Detector) SetInterfaceRules(rules []Rule) error {
	if err := ValidateRules(rules); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return ErrClosed
	}
	set, err := d.rules.acquire(d.shared.Rules, rules)
	if err != nil {
		return err
	}
	publish()
	if err := d.tables.InterfaceRules.Set(set); err != nil {
		d.rules.release(set)
		return fmt.Errorf("change rules: %w", err)
	}
	d.rules.release(d.interfaceRules)
	d.interfaceRules = set
	return nil
}

// ruleSets are the sets of rules that are in the map, each once, however many
// have it.
type ruleSets struct {
	places map[bpfRuleSet]uint8 // of those in use
	users  [maxRuleSets + 1]uint32
	free   []uint8 // nobody looks at them
	left   []uint8 // without users, but maybe a packet has yet to look
}

func newRuleSets() *ruleSets {
	s := &ruleSets{places: make(map[bpfRuleSet]uint8)}
	for place := maxRuleSets; place > 0; place-- {
		s.free = append(s.free, uint8(place))
	}
	return s
}

// acquire returns the place of these rules in the map, 0 for none, and counts
// one more user of it. Error: ErrRule if there is no room.
func (s *ruleSets) acquire(m *ebpf.Map, rules []Rule) (uint8, error) {
	if len(rules) == 0 {
		return 0, nil
	}
	set := encode(rules)
	place, found := s.places[set]
	if !found {
		if len(s.free) == 0 && len(s.left) > 0 {
			awaitReaders()
			s.free, s.left = s.left, nil
		}
		if len(s.free) == 0 {
			return 0, fmt.Errorf("%w: more than %d different lists", ErrRule, maxRuleSets)
		}
		place = s.free[len(s.free)-1]
		if err := m.Put(uint32(place), &set); err != nil {
			return 0, fmt.Errorf("write rules: %w", err)
		}
		s.free = s.free[:len(s.free)-1]
		s.places[set] = place
	}
	s.users[place]++
	return place, nil
}

// release takes back what acquire has given.
func (s *ruleSets) release(place uint8) {
	if place == 0 {
		return
	}
	if s.users[place]--; s.users[place] == 0 {
		maps.DeleteFunc(s.places, func(_ bpfRuleSet, p uint8) bool { return p == place })
		s.left = append(s.left, place)
	}
}
