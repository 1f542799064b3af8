// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"bytes"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParse(t *testing.T) {
	var (
		from4, to4 = netip.MustParseAddrPort("10.0.0.1:41234"), netip.MustParseAddrPort("10.0.0.2:22")
		from6, to6 = netip.MustParseAddrPort("[2001:db8::1]:41234"), netip.MustParseAddrPort("[2001:db8::2]:22")
		udp4, tcp4 = Flow{unix.IPPROTO_UDP, from4, to4}, Flow{unix.IPPROTO_TCP, from4, to4}
		udp6, tcp6 = Flow{unix.IPPROTO_UDP, from6, to6}, Flow{unix.IPPROTO_TCP, from6, to6}
		options    = make([]byte, 12)
	)
	plain4 := func() []byte { return udp(from4, to4, "hello") }
	extended := func(extensions ...uint8) []byte { return extended6(from6, to6, "hello", extensions...) }
	without := func(f Flow, protocol uint8) Flow {
		return Flow{protocol, noPort(f.Source.Addr()), noPort(f.Destination.Addr())}
	}

	for name, test := range map[string]struct {
		packet []byte
		want   Flow
	}{
		"nothing":         {nil, Flow{}},
		"no IP":           {[]byte("no IP packet at all, of course"), Flow{}},
		"half IPv4":       {plain4()[:header4-1], Flow{}},
		"half IPv6":       {extended()[:header6-1], Flow{}},
		"UDP":             {plain4(), udp4},
		"UDP in IPv6":     {extended(), udp6},
		"TCP":             {tcp(from4, to4, tcpACK), tcp4},
		"TCP in IPv6":     {tcp(from6, to6, tcpACK), tcp6},
		"SCTP":            {ip(from4.Addr(), to4.Addr(), unix.IPPROTO_SCTP, ports(from4, to4)), Flow{unix.IPPROTO_SCTP, from4, to4}},
		"ICMP":            {ip(from4.Addr(), to4.Addr(), unix.IPPROTO_ICMP, make([]byte, 8)), without(udp4, unix.IPPROTO_ICMP)},
		"ICMPv6":          {ip(from6.Addr(), to6.Addr(), unix.IPPROTO_ICMPV6, make([]byte, 8)), without(udp6, unix.IPPROTO_ICMPV6)},
		"half a port":     {plain4()[:header4+3], without(udp4, unix.IPPROTO_UDP)},
		"options":         {ip4(from4.Addr(), to4.Addr(), unix.IPPROTO_UDP, options, ports(from4, to4)), udp4},
		"options missing": {ip4(from4.Addr(), to4.Addr(), unix.IPPROTO_UDP, options, nil)[:header4+11], without(udp4, unix.IPPROTO_UDP)},
		"short header":    {patched(plain4(), 0, 4<<4|4), without(udp4, unix.IPPROTO_UDP)},
		"first fragment":  {patched(plain4(), 6, 0x20, 0), udp4},
		"later fragment":  {patched(plain4(), 6, 0x20, 1), without(udp4, unix.IPPROTO_UDP)},
		"do not fragment": {patched(plain4(), 6, 0x40, 0), udp4},

		"extensions":             {extended(unix.IPPROTO_HOPOPTS, unix.IPPROTO_DSTOPTS, unix.IPPROTO_ROUTING), udp6},
		"first fragment of IPv6": {extended(unix.IPPROTO_FRAGMENT), udp6},
		"later fragment of IPv6": {patched(extended(unix.IPPROTO_FRAGMENT), header6+3, 8), without(udp6, unix.IPPROTO_UDP)},
		"half an extension":      {extended(unix.IPPROTO_HOPOPTS)[:header6+7], without(udp6, unix.IPPROTO_HOPOPTS)},
		"half a fragment header": {extended(unix.IPPROTO_FRAGMENT)[:header6+7], without(udp6, unix.IPPROTO_FRAGMENT)},
		"extension too long":     {patched(extended(unix.IPPROTO_DSTOPTS), header6+1, 255), without(udp6, unix.IPPROTO_DSTOPTS)},
	} {
		t.Run(name, func(t *testing.T) {
			if got, _ := parse(test.packet); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestFlowString(t *testing.T) {
	from4, to4 := netip.MustParseAddrPort("10.0.0.1:41234"), netip.MustParseAddrPort("10.0.0.2:22")
	from6, to6 := netip.MustParseAddrPort("[2001:db8::1]:41234"), netip.MustParseAddrPort("[2001:db8::2]:22")
	for want, flow := range map[string]Flow{
		"":                                           {},
		"tcp 10.0.0.1:41234 > 10.0.0.2:22":           {unix.IPPROTO_TCP, from4, to4},
		"icmp 10.0.0.1 > 10.0.0.2":                   {unix.IPPROTO_ICMP, noPort(from4.Addr()), noPort(to4.Addr())},
		"proto-253 10.0.0.1 > 10.0.0.2":              {253, noPort(from4.Addr()), noPort(to4.Addr())},
		"icmpv6 2001:db8::1 > 2001:db8::2":           {unix.IPPROTO_ICMPV6, noPort(from6.Addr()), noPort(to6.Addr())},
		"udp [2001:db8::1]:41234 > [2001:db8::2]:22": {unix.IPPROTO_UDP, from6, to6},
	} {
		if got := flow.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestIsSYN(t *testing.T) {
	const ecn = 0xc0 // ECE and CWR
	syn := tcp(hostPort4, peerPort4, tcpSYN)
	for name, test := range map[string]struct {
		packet []byte
		want   bool
	}{
		"SYN":             {syn, true},
		"SYN in IPv6":     {tcp(hostPort6, peerPort6, tcpSYN), true},
		"SYN with ECN":    {tcp(hostPort4, peerPort4, tcpSYN|ecn), true},
		"SYN and ACK":     {tcp(hostPort4, peerPort4, tcpSYN|tcpACK), false},
		"ACK":             {tcp(hostPort4, peerPort4, tcpACK), false},
		"flags missing":   {syn[:header4+tcpFlags], false},
		"later fragment":  {patched(tcp(hostPort4, peerPort4, tcpSYN), 6, 0, 1), false},
		"UDP, looks like": {udp(hostPort4, peerPort4, "12345\x02"), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := isSYN(parse(test.packet)); got != test.want {
				t.Errorf("%t, want %t", got, test.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, packet := range [][]byte{
		nil, {4 << 4}, {6 << 4}, udp(hostPort4, peerPort4, "hello"), udp(hostPort6, peerPort6, "hello"),
		tcp(hostPort4, peerPort4, tcpSYN), tcp(hostPort6, peerPort6, tcpSYN)[:header6+10],
		ip4(host4, peerPort4.Addr(), unix.IPPROTO_UDP, make([]byte, 40), ports(hostPort4, peerPort4)),
		extended6(hostPort6, peerPort6, "", unix.IPPROTO_HOPOPTS, unix.IPPROTO_FRAGMENT, unix.IPPROTO_DSTOPTS),
	} {
		f.Add(packet)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		flow, payload := parse(packet)
		if !bytes.HasSuffix(packet, payload) {
			t.Errorf("payload %x is not the end of %x", payload, packet)
		}
		header := 0
		switch {
		case len(packet) >= header4 && packet[0]>>4 == 4:
			header = header4
		case len(packet) >= header6 && packet[0]>>4 == 6:
			header = header6
		}
		if header == 0 {
			if flow != (Flow{}) || flow.String() != "" {
				t.Errorf("%+v of what is no IP packet", flow)
			}
			return
		}
		// The addresses end the fixed header.
		size := flow.Source.Addr().BitLen() / 8
		addresses := append(flow.Source.Addr().AsSlice(), flow.Destination.Addr().AsSlice()...)
		if !bytes.Equal(addresses, packet[header-2*size:header]) {
			t.Errorf("addresses of %+v are not those of %x", flow, packet)
		}
		if len(payload) > len(packet)-header {
			t.Errorf("the payload takes %d bytes of %d", len(payload), len(packet))
		}
		if flow.String() == "" {
			t.Errorf("%+v says nothing", flow)
		}
		// What the programs capture of a packet says no more than the whole,
		// and nothing else.
		part, _ := parse(packet[:header])
		if part.Source != noPort(flow.Source.Addr()) || part.Destination != noPort(flow.Destination.Addr()) {
			t.Errorf("the header alone says %+v, the packet %+v", part, flow)
		}
	})
}
