// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

func TestValidateRules(t *testing.T) {
	for name, test := range map[string]struct {
		rules   []Rule
		message string // empty: they are valid
	}{
		"none": {nil, ""},
		"most": {make([]Rule, MaxRules), ""},
		"all fields": {[]Rule{
			{Counts, IngressOnly, unix.IPPROTO_TCP, PortRange{65535, 65535}}, {Ignored, EgressOnly, 0, PortRange{0, 1}},
			{KeepsAwake, EitherDirection, unix.IPPROTO_ICMP, PortRange{}}, {Wakes, 0, 255, PortRange{}},
		}, ""},
		"too many":          {make([]Rule, MaxRules+1), "invalid rule: 17 rules, at most 16 are possible"},
		"effect":            {[]Rule{{}, {Effect: 4}}, "invalid rule 2: field Effect: 4 is not within 0 to 3"},
		"direction":         {[]Rule{{Direction: 3}}, "invalid rule 1: field Direction: 3 is none of EitherDirection, EgressOnly, IngressOnly"},
		"ports":             {[]Rule{{Ports: PortRange{53, 52}}}, "invalid rule 1: field Ports: 53 to 52 is no range of ports; a single one is both First and Last"},
		"one port":          {[]Rule{{Ports: PortRange{First: 53}}}, "invalid rule 1: field Ports: 53 to 0 is no range of ports; a single one is both First and Last"},
		"protocol and port": {[]Rule{{Protocol: 1, Ports: PortRange{1, 2}}}, "invalid rule 1: field Ports: protocol 1 has no ports; TCP, UDP, UDP-Lite, SCTP and DCCP do"},
	} {
		t.Run(name, func(t *testing.T) {
			err := ValidateRules(test.rules)
			message := ""
			if err != nil {
				message = err.Error()
			}
			if message != test.message || err != nil && !errors.Is(err, ErrRule) {
				t.Errorf("got  %v\nwant %q", err, test.message)
			}
		})
	}
}

// list is the n-th of many lists of rules. Each of them ignores all packets, by
// a rule in another place: the others are about ports that no test uses.
func list(n int) []Rule {
	rules := make([]Rule, MaxRules)
	for i := range rules {
		port := uint16(1 + n)
		rules[i] = Rule{Effect: Counts, Protocol: unix.IPPROTO_TCP, Ports: PortRange{port, port}}
	}
	rules[n%MaxRules] = Rule{Effect: Ignored}
	return rules
}

// TestRulesShared gives peers more lists of rules than there is room for.
func TestRulesShared(t *testing.T) {
	t.Parallel()
	d := newRig(t, Options{Rules: list(0)})
	peers := make([]ID, maxRuleSets+1)
	for n := range peers {
		peers[n] = d.mustAdd()
	}
	for n, id := range peers[1:] {
		d.mustSetRules(id, list(n)...) // the first as the interface has it
	}
	expectFull := func(full bool) {
		t.Helper()
		before := d.rulesOf(peers[0])
		err := d.SetRules(peers[0], list(1000))
		if full && (!errors.Is(err, ErrRule) || d.rulesOf(peers[0]) != before || d.SetInterfaceRules(list(1000)) == nil) {
			t.Errorf("a list for which there is no room: %v, in place %d after %d", err, d.rulesOf(peers[0]), before)
		}
		if !full && err != nil {
			t.Error(err)
		}
		d.mustSetRules(peers[0])
	}
	expectFull(true)
	d.mustSetRules(peers[0], list(100)...)
	if got, want := d.rulesOf(peers[0]), d.rulesOf(peers[101]); got != want || got == 0 {
		t.Errorf("equal lists are in %d and %d", got, want)
	}
	expectFull(true) // one more has used what others still do

	// The last user of a list makes room: by other rules, by leaving, and the
	// interface, which is one of two.
	d.mustSetRules(peers[1])
	expectFull(true)
	d.mustSetInterfaceRules()
	expectFull(false)
	d.mustSetRules(peers[1], list(0)...)
	expectFull(true)
	if err := d.Remove(peers[2]); err != nil {
		t.Fatal(err)
	}
	expectFull(false)
	d.mustSetRules(peers[3], list(4)...)
	d.mustSetRules(peers[1], list(1001)...)
	expectFull(false)

	// Whoever gets the slot of a peer with rules has none.
	if got := d.rulesOf(d.mustAdd()); got != 0 {
		t.Errorf("a new peer has the rules in %d", got)
	}
	if err := d.SetRules(peers[3], []Rule{{Effect: 9}}); !errors.Is(err, ErrRule) {
		t.Errorf("rules that are not valid: %v", err)
	}
	if got, want := d.rulesOf(peers[3]), d.rulesOf(peers[5]); got != want {
		t.Errorf("after an error the rules are in %d, not %d", got, want)
	}
}

// rulesOf is which set of rules the peer's record names.
func (d detector) rulesOf(id ID) uint16 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tables.record(id.Slot()).Rules
}

// TestRulesGrow keeps rules while tables grow.
func TestRulesGrow(t *testing.T) {
	t.Parallel()
	d, peer := newRules(t)
	packet := udp(hostPort4, peerPort4, "")
	d.mustSetInterfaceRules(Rule{Effect: Wakes, Direction: EgressOnly})
	d.mustSetRules(peer, Rule{Effect: KeepsAwake, Direction: IngressOnly})
	for range minCapacity {
		d.mustAdd()
	}
	if egress, ingress := d.effect(peer, Egress, packet), d.effect(peer, Ingress, packet); egress != Wakes || ingress != KeepsAwake {
		t.Errorf("effects %d, %d, want %d, %d", egress, ingress, Wakes, KeepsAwake)
	}
}

// TestRulesChange changes rules again and again, those of a peer and those of
// the interface, while packets come. All lists ignore them, but two halves of
// different lists would not.
func TestRulesChange(t *testing.T) {
	d, peer := newRules(t)
	d.mustSetRules(peer, list(0)...)
	d.mustSetInterfaceRules(list(1)...)
	d.mustArm(peer, false)
	var senders sync.WaitGroup
	var sent atomic.Int32
	for direction, program := range []*ebpf.Program{Egress: d.tables.PeerEgress, Ingress: d.tables.PeerIngress} {
		senders.Go(func() {
			defer sent.Add(1)
			const packets = 2_000_000
			packet := udp(hostPort4, peerPort4, "")
			if direction == int(Ingress) {
				packet = udp(hostPort6, peerPort6, "")
			}
			if _, err := program.Run(&ebpf.RunOptions{Data: packet, Repeat: packets}); err != nil {
				t.Error(err)
			}
		})
	}
	changes := 0
	for ; sent.Load() < 2; changes++ {
		if changes%2 == 0 {
			d.mustSetRules(peer, list(changes)...)
		} else {
			d.mustSetRules(peer)
			d.mustSetInterfaceRules(list(changes)...)
			d.mustSetRules(peer, list(changes+1000)...)
		}
	}
	senders.Wait()
	if a := d.mustActivity(peer); !a.Last().IsZero() || d.gate(peer) != bpfGateGATE_ARMED {
		t.Errorf("with %d changes a packet was not ignored: gate %d, %+v", changes, d.gate(peer), a)
	}
}
