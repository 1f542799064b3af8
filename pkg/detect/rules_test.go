// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// everything are the prefixes of a peer to which all packets belong.
var everything = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}

// newRules makes a rig with a peer to which all packets belong. Its events go
// unseen.
func newRules(t testing.TB) (d detector, peer ID) {
	t.Helper()
	d = newRig(t, Options{CountMulticast: true})
	go func() {
		for range d.Events() {
		}
	}()
	return d, d.mustAdd(everything...)
}

func (d detector) mustSetRules(id ID, rules ...Rule) {
	d.t.Helper()
	if err := d.SetRules(id, rules); err != nil {
		d.t.Fatal(err)
	}
}

func (d detector) mustSetInterfaceRules(rules ...Rule) {
	d.t.Helper()
	if err := d.SetInterfaceRules(rules); err != nil {
		d.t.Fatal(err)
	}
}

// effect is what the programs take a packet of this peer for. They count it,
// whatever that is.
func (d detector) effect(id ID, direction Direction, packet []byte) Effect {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	record := d.tables.record(id.Slot())
	*record = bpfPeer{Gate: bpfGateGATE_ARMED, Generation: id.Generation(), Rules: record.Rules}
	if verdict := d.run(direction, packet, skb{}); verdict != pass {
		d.t.Errorf("verdict %d, want %d", verdict, pass)
	}
	after := snapshot(record)
	last, packets, bytes := after.LastTx, after.TxPackets, after.TxBytes
	if direction == Ingress {
		last, packets, bytes = after.LastRx, after.RxPackets, after.RxBytes
	}
	if packets != 1 || bytes != uint64(len(packet)) {
		d.t.Errorf("%s of %d bytes: counted %d packets, %d bytes", direction, len(packet), packets, bytes)
	}
	var effect Effect
	if after.Gate == bpfGateGATE_OPEN {
		effect |= Wakes
	}
	if last != 0 {
		effect |= KeepsAwake
	}
	return effect
}

// TestRules takes packets to a rule, which either matches or does not.
func TestRules(t *testing.T) {
	t.Parallel()
	const tcpNumber, udpNumber, icmpNumber = unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_ICMP
	from4, from6 := netip.AddrPortFrom(host4, 40000), netip.AddrPortFrom(host6, 40000)
	to4, to6 := netip.AddrPortFrom(peer4(2).Addr(), 53), netip.AddrPortFrom(peer6(2).Addr(), 53)
	udp4, udp6 := udp(from4, to4, "query"), udp(from6, to6, "query")
	icmp := ip(host4, to4.Addr(), icmpNumber, make([]byte, 8))
	with := func(protocol uint8) []byte { return ip(host4, to4.Addr(), protocol, ports(from4, to4)) }
	extended := func(extensions ...uint8) []byte { return extended6(from6, to6, "query", extensions...) }
	options := func(n int) []byte {
		return ip4(host4, to4.Addr(), udpNumber, make([]byte, n), ports(from4, to4))
	}
	headers := func(n int) []byte { // as many as this before UDP
		extensions := make([]uint8, n)
		for i := range extensions {
			extensions[i] = unix.IPPROTO_DSTOPTS
		}
		return extended(extensions...)
	}
	dns := Rule{Protocol: udpNumber, Ports: PortRange{53, 53}}

	d, peer := newRules(t)
	for name, test := range map[string]struct {
		rule      Rule
		direction Direction
		packet    []byte
		matches   bool
	}{
		"anything": {Rule{}, Egress, udp4, true}, "anything of IPv6": {Rule{}, Ingress, udp6, true},
		"anything without ports": {Rule{}, Egress, icmp, true}, "anything that is only a header": {Rule{}, Egress, udp6[:header6], true},

		"egress":       {Rule{Direction: EgressOnly}, Egress, udp4, true},
		"not egress":   {Rule{Direction: EgressOnly}, Ingress, udp4, false},
		"ingress":      {Rule{Direction: IngressOnly}, Ingress, udp6, true},
		"not ingress":  {Rule{Direction: IngressOnly}, Egress, udp6, false},
		"UDP":          {Rule{Protocol: udpNumber}, Egress, udp4, true},
		"UDP of IPv6":  {Rule{Protocol: udpNumber}, Ingress, udp6, true},
		"not TCP":      {Rule{Protocol: tcpNumber}, Egress, udp4, false},
		"ICMP":         {Rule{Protocol: icmpNumber}, Ingress, icmp, true},
		"not TCP, too": {Rule{Protocol: tcpNumber, Ports: PortRange{53, 53}}, Egress, udp4, false},
		"any other":    {Rule{Protocol: 253}, Egress, with(253), true},

		"to the port":        {dns, Egress, udp4, true},
		"to the port, IPv6":  {dns, Ingress, udp6, true},
		"from the port":      {Rule{Ports: PortRange{40000, 40000}}, Egress, udp4, true},
		"first of a range":   {Rule{Ports: PortRange{53, 60}}, Egress, udp4, true},
		"last of a range":    {Rule{Ports: PortRange{40, 53}}, Egress, udp4, true},
		"before a range":     {Rule{Ports: PortRange{54, 39999}}, Egress, udp4, false},
		"around both":        {Rule{Ports: PortRange{1, 65535}}, Egress, udp4, true},
		"between the ports":  {Rule{Ports: PortRange{100, 200}}, Egress, udp6, false},
		"from 0":             {Rule{Ports: PortRange{0, 53}}, Egress, udp4, true},
		"all, without ports": {Rule{Ports: PortRange{0, 65535}}, Egress, icmp, false},
		"all, no ports of 0": {Rule{Ports: PortRange{0, 65535}}, Egress, ip(host4, to4.Addr(), udpNumber, make([]byte, 8)), false},
		"TCP with ports":     {Rule{Ports: PortRange{53, 53}}, Egress, tcp(from6, to6, tcpSYN), true},
		"SCTP with ports":    {Rule{Ports: PortRange{53, 53}}, Egress, with(unix.IPPROTO_SCTP), true},
		"DCCP with ports":    {Rule{Ports: PortRange{53, 53}}, Egress, with(unix.IPPROTO_DCCP), true},
		"UDP-Lite":           {Rule{Ports: PortRange{53, 53}}, Egress, with(unix.IPPROTO_UDPLITE), true},
		"GRE has none":       {Rule{Ports: PortRange{53, 53}}, Egress, with(unix.IPPROTO_GRE), false},

		"IPv4 options":            {dns, Egress, options(4), true},
		"most IPv4 options":       {dns, Egress, options(40), true},
		"options missing":         {dns, Egress, options(40)[:header4+39], false},
		"half a port":             {dns, Egress, udp4[:header4+3], false},
		"just the ports":          {dns, Egress, udp4[:header4+4], true},
		"half a port of IPv6":     {dns, Egress, udp6[:header6+3], false},
		"just the ports, IPv6":    {dns, Egress, udp6[:header6+4], true},
		"impossible header":       {dns, Egress, patched(udp(from4, to4, ""), 0, 4<<4|4), false},
		"its protocol":            {Rule{Protocol: udpNumber}, Egress, patched(udp(from4, to4, ""), 0, 4<<4|4), true},
		"first fragment":          {dns, Egress, patched(udp(from4, to4, ""), 6, 0x20, 0), true},
		"later fragment":          {dns, Egress, patched(udp(from4, to4, ""), 6, 0x20, 1), false},
		"later fragment's UDP":    {Rule{Protocol: udpNumber}, Egress, patched(udp(from4, to4, ""), 6, 0x20, 1), true},
		"extensions":              {dns, Egress, extended(unix.IPPROTO_HOPOPTS, unix.IPPROTO_DSTOPTS, unix.IPPROTO_ROUTING), true},
		"a long extension":        {dns, Egress, patched(append(extended(unix.IPPROTO_DSTOPTS)[:header6+8], append(make([]byte, 8), ports(from6, to6)...)...), header6+1, 1), true},
		"extension too long":      {dns, Egress, patched(extended(unix.IPPROTO_DSTOPTS), header6+1, 255), false},
		"its number":              {Rule{Protocol: unix.IPPROTO_DSTOPTS}, Egress, patched(extended(unix.IPPROTO_DSTOPTS), header6+1, 255), true},
		"half an extension":       {Rule{Protocol: unix.IPPROTO_DSTOPTS}, Egress, extended(unix.IPPROTO_DSTOPTS)[:header6+7], true},
		"a whole one":             {Rule{Protocol: unix.IPPROTO_DSTOPTS}, Egress, extended(unix.IPPROTO_DSTOPTS)[:header6+8], false},
		"first fragment of IPv6":  {dns, Egress, extended(unix.IPPROTO_FRAGMENT), true},
		"later fragment of IPv6":  {dns, Egress, patched(extended(unix.IPPROTO_FRAGMENT), header6+3, 8), false},
		"later fragment, UDP":     {Rule{Protocol: udpNumber}, Egress, patched(extended(unix.IPPROTO_FRAGMENT), header6+2, 1), true},
		"seven extensions":        {dns, Egress, headers(7), true},
		"eight extensions":        {dns, Egress, headers(8), false},
		"nine extensions":         {Rule{Protocol: unix.IPPROTO_DSTOPTS}, Egress, headers(9), true},
		"IPv6 in a wrong skb":     {dns, Egress, udp(netip.MustParseAddrPort("[2001:db8:800::1]:1"), to6, ""), true},
		"encrypted, looks inside": {dns, Egress, ip(host6, to6.Addr(), unix.IPPROTO_ESP, ports(from6, to6)), false},
	} {
		t.Run(name, func(t *testing.T) {
			d.t = t
			d.mustSetRules(peer, test.rule)
			want := Counts
			if test.matches {
				want = Ignored
			}
			if got := d.effect(peer, test.direction, test.packet); got != want {
				t.Errorf("effect %d, want %d", got, want)
			}
		})
	}
}

// TestRulesOrder has several rules match: the first decides, and those of the
// peer come before those of the interface.
func TestRulesOrder(t *testing.T) {
	t.Parallel()
	d, peer := newRules(t)
	all := func(e Effect) Rule { return Rule{Effect: e} }
	other := Rule{Protocol: unix.IPPROTO_TCP}
	most := make([]Rule, MaxRules)
	for i := range most {
		most[i] = Rule{Effect: Effect(i % 4), Ports: PortRange{1, uint16(1 + i)}}
	}
	most[MaxRules-1] = all(Wakes)
	for name, test := range map[string]struct {
		peer, device []Rule
		want         Effect
	}{
		"none":                    {nil, nil, Counts},
		"ignored":                 {[]Rule{all(Ignored)}, nil, Ignored},
		"wakes":                   {[]Rule{all(Wakes)}, nil, Wakes},
		"keeps awake":             {[]Rule{all(KeepsAwake)}, nil, KeepsAwake},
		"counts":                  {[]Rule{all(Counts)}, nil, Counts},
		"the first":               {[]Rule{all(Wakes), all(KeepsAwake)}, nil, Wakes},
		"the second":              {[]Rule{other, all(KeepsAwake), all(Wakes)}, nil, KeepsAwake},
		"the last":                {most, nil, Wakes},
		"of the interface":        {nil, []Rule{other, all(Wakes)}, Wakes},
		"the last of those":       {nil, most, Wakes},
		"the peer's":              {[]Rule{all(KeepsAwake)}, []Rule{all(Wakes)}, KeepsAwake},
		"an exception":            {[]Rule{all(Counts)}, []Rule{all(Ignored)}, Counts},
		"not the peer's":          {[]Rule{other}, []Rule{all(Wakes)}, Wakes},
		"neither":                 {[]Rule{other}, []Rule{other}, Counts},
		"equal":                   {most, most, Wakes},
		"sixteen that do not fit": {append([]Rule{other}, most[:MaxRules-1]...), []Rule{all(Ignored)}, Ignored},
	} {
		t.Run(name, func(t *testing.T) {
			d.t = t
			d.mustSetRules(peer, test.peer...)
			d.mustSetInterfaceRules(test.device...)
			for _, direction := range []Direction{Egress, Ingress} {
				for _, packet := range [][]byte{udp(hostPort4, peerPort4, ""), udp(hostPort6, peerPort6, "")} {
					if got := d.effect(peer, direction, packet); got != test.want {
						t.Errorf("%s: effect %d, want %d", direction, got, test.want)
					}
				}
			}
		})
	}
}

// TestRulesRandom compares the programs with a model, which reads packets as
// events are read, on packets that have a byte changed here and an end cut off
// there.
func TestRulesRandom(t *testing.T) {
	t.Parallel()
	const rounds = 5_000
	d, peer := newRules(t)
	random := rand.New(rand.NewPCG(20, 26))
	protocols := []uint8{0, unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_ICMP, unix.IPPROTO_DSTOPTS, unix.IPPROTO_FRAGMENT}
	someRules := func() []Rule {
		rules := make([]Rule, random.IntN(5))
		for i := range rules {
			rules[i] = Rule{
				Effect: Effect(random.IntN(4)), Direction: RuleDirection(random.IntN(3)),
				Protocol: protocols[random.IntN(len(protocols))],
			}
			if rules[i].Protocol == 0 || hasPorts(rules[i].Protocol) {
				last := random.IntN(1 << random.IntN(17))
				rules[i].Ports = PortRange{uint16(random.IntN(last + 1)), uint16(last)}
			}
		}
		return rules
	}
	packets := func() [][]byte {
		return [][]byte{
			udp(hostPort4, peerPort4, "hello"), tcp(hostPort4, peerPort4, tcpSYN), udp(hostPort6, peerPort6, "hello"),
			ip4(host4, peerPort4.Addr(), unix.IPPROTO_UDP, make([]byte, 8), ports(hostPort4, peerPort4)),
			extended6(hostPort6, peerPort6, "hello", unix.IPPROTO_HOPOPTS, unix.IPPROTO_FRAGMENT, unix.IPPROTO_DSTOPTS),
			extended6(hostPort6, peerPort6, "hello", unix.IPPROTO_ROUTING),
		}
	}
	const shortest = 14 // that a test run takes
	for range rounds {
		own, device := someRules(), someRules()
		packet := packets()[random.IntN(len(packets()))]
		for range random.IntN(3) {
			packet[1+random.IntN(len(packet)-1)] = byte(random.Uint32() >> random.IntN(32))
		}
		packet = packet[:max(shortest, len(packet)-random.IntN(len(packet))*random.IntN(2))]
		direction := Direction(random.IntN(2))
		flow, _ := parse(packet)
		if flow == (Flow{}) {
			continue
		}
		d.mustSetRules(peer, own...)
		d.mustSetInterfaceRules(device...)
		want := model(append(own, device...), direction, flow)
		if got := d.effect(peer, direction, packet); got != want {
			t.Fatalf("effect %d, want %d: %s %s\n%x\n%+v\n%+v", got, want, direction, flow, packet, own, device)
		}
	}
}

// model is what a packet of this flow counts as.
func model(rules []Rule, direction Direction, flow Flow) Effect {
	for _, r := range rules {
		in := func(port uint16) bool { return r.Ports.First <= port && port <= r.Ports.Last }
		from, to := flow.Source.Port(), flow.Destination.Port()
		switch {
		case r.Direction == EgressOnly && direction != Egress, r.Direction == IngressOnly && direction != Ingress:
		case r.Protocol != 0 && r.Protocol != flow.Protocol:
		case r.Ports != PortRange{} && (from == 0 && to == 0 || !in(from) && !in(to)):
		default:
			return r.Effect
		}
	}
	return Counts
}

// TestGatesNotWoken takes packets that do not wake to each gate.
func TestGatesNotWoken(t *testing.T) {
	t.Parallel()
	d := newRig(t, Options{})
	peer := d.mustAdd(single(peer4(2)))
	d.mustSetRules(peer, Rule{Effect: KeepsAwake})
	for gate, egress := range map[bpfGate]int{
		bpfGateGATE_OPEN:       pass,
		bpfGateGATE_ARMED:      pass,
		bpfGateGATE_ARMED_HOLD: pass,
		bpfGateGATE_WOKEN_HOLD: park,
		bpfGateGATE_HOLD:       park,
		bpfGateGATE_DRAINING:   park,
	} {
		before := bpfPeer{Gate: gate, Generation: peer.Generation(), Rules: 1, Held: 7, Released: 6}
		for direction, want := range map[Direction]int{Egress: egress, Ingress: pass} {
			verdict, after := d.step(peer, before, direction)
			held, passed := before.Held, uint64(1)
			if want == park {
				held, passed = held+1, 0
			}
			if verdict != want || after.Gate != gate || after.Held != held || after.TxPackets+after.RxPackets != passed {
				t.Errorf("gate %d, %s: verdict %d, want %d: %+v", gate, direction, verdict, want, after)
			}
		}
	}
	if events := d.raised(); len(events) > 0 {
		t.Errorf("raised %+v", events)
	}
}
