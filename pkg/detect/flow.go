// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Flow says between whom a packet goes. The zero Flow is that of a packet that
// could not be read.
type Flow struct {
	// Protocol is the IP protocol number of the payload.
	Protocol uint8
	// Source and Destination have port 0 where the protocol has no ports, and
	// in every fragment but the first.
	Source, Destination netip.AddrPort
}

var protocolNames = map[uint8]string{
	unix.IPPROTO_ICMP:    "icmp",
	unix.IPPROTO_IGMP:    "igmp",
	unix.IPPROTO_TCP:     "tcp",
	unix.IPPROTO_UDP:     "udp",
	unix.IPPROTO_DCCP:    "dccp",
	unix.IPPROTO_GRE:     "gre",
	unix.IPPROTO_ESP:     "esp",
	unix.IPPROTO_ICMPV6:  "icmpv6",
	unix.IPPROTO_SCTP:    "sctp",
	unix.IPPROTO_UDPLITE: "udplite",
}

// String gives the flow as "tcp 10.0.0.1:41234 > 10.0.0.2:22", without ports
// where there are none, and nothing for the zero Flow.
func (f Flow) String() string {
	if !f.Source.IsValid() {
		return ""
	}
	name, ok := protocolNames[f.Protocol]
	if !ok {
		name = fmt.Sprintf("proto-%d", f.Protocol)
	}
	return fmt.Sprintf("%s %s > %s", name, endpoint(f.Source), endpoint(f.Destination))
}

func endpoint(a netip.AddrPort) string {
	if a.Port() == 0 {
		return a.Addr().String()
	}
	return a.String()
}

const (
	header4 = 20 // bytes of an IPv4 header without options
	header6 = 40 // bytes of an IPv6 header without extensions

	tcpFlags = 13 // offset in the TCP header
	tcpSYN   = 0x02
	tcpACK   = 0x10
)

// parse reads the beginning of an IP packet: its flow, and what is there of
// the payload behind the IP headers. A packet without readable IP header has
// the zero Flow.
func parse(packet []byte) (Flow, []byte) {
	if len(packet) == 0 {
		return Flow{}, nil
	}
	switch packet[0] >> 4 {
	case 4:
		return parse4(packet)
	case 6:
		return parse6(packet)
	}
	return Flow{}, nil
}

func parse4(packet []byte) (Flow, []byte) {
	if len(packet) < header4 {
		return Flow{}, nil
	}
	source, destination := netip.AddrFrom4([4]byte(packet[12:])), netip.AddrFrom4([4]byte(packet[16:]))
	length := int(packet[0]&0xf) * 4
	firstFragment := binary.BigEndian.Uint16(packet[6:])&0x1fff == 0
	if !firstFragment || length < header4 || length > len(packet) {
		return flow(packet[9], source, destination, nil)
	}
	return flow(packet[9], source, destination, packet[length:])
}

func parse6(packet []byte) (Flow, []byte) {
	if len(packet) < header6 {
		return Flow{}, nil
	}
	source, destination := netip.AddrFrom16([16]byte(packet[8:])), netip.AddrFrom16([16]byte(packet[24:]))
	next, rest := packet[6], packet[header6:]
	for {
		switch next {
		case unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_DSTOPTS:
			if len(rest) < 2 || len(rest) < 8+8*int(rest[1]) {
				return flow(next, source, destination, nil)
			}
			next, rest = rest[0], rest[8+8*int(rest[1]):]
		case unix.IPPROTO_FRAGMENT:
			if len(rest) < 8 {
				return flow(next, source, destination, nil)
			}
			if binary.BigEndian.Uint16(rest[2:])&0xfff8 != 0 {
				return flow(rest[0], source, destination, nil)
			}
			next, rest = rest[0], rest[8:]
		default:
			return flow(next, source, destination, rest)
		}
	}
}

// flow adds the ports, where the payload has them, to what the IP header says.
func flow(protocol uint8, source, destination netip.Addr, payload []byte) (Flow, []byte) {
	var from, to uint16
	if hasPorts(protocol) && len(payload) >= 4 {
		from, to = binary.BigEndian.Uint16(payload), binary.BigEndian.Uint16(payload[2:])
	}
	return Flow{
		Protocol:    protocol,
		Source:      netip.AddrPortFrom(source, from),
		Destination: netip.AddrPortFrom(destination, to),
	}, payload
}

// hasPorts says whether a protocol's header begins with two ports.
func hasPorts(protocol uint8) bool {
	switch protocol {
	case unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_UDPLITE, unix.IPPROTO_SCTP, unix.IPPROTO_DCCP:
		return true
	}
	return false
}

// isSYN says whether the packet of this flow and payload opens a TCP connection.
func isSYN(f Flow, payload []byte) bool {
	return f.Protocol == unix.IPPROTO_TCP && len(payload) > tcpFlags &&
		payload[tcpFlags]&(tcpSYN|tcpACK) == tcpSYN
}
