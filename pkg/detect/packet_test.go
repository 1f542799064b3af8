// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

const tcpRST = 0x04

// udp is a UDP packet in IPv4 or IPv6, as the addresses are.
func udp(from, to netip.AddrPort, payload string) []byte {
	segment := ports(from, to)
	segment = binary.BigEndian.AppendUint16(segment, uint16(8+len(payload)))
	segment = append(segment, 0, 0)
	segment = append(segment, payload...)
	const offset = 6
	binary.BigEndian.PutUint16(segment[offset:], checksum(pseudoHeader(from.Addr(), to.Addr(), unix.IPPROTO_UDP, segment), segment))
	return ip(from.Addr(), to.Addr(), unix.IPPROTO_UDP, segment)
}

// tcp is a TCP packet with these flags, sequence numbers 0 and no data.
func tcp(from, to netip.AddrPort, flags byte) []byte { return tcpSegment(from, to, flags, 0, 0, "") }

func tcpSegment(from, to netip.AddrPort, flags byte, sequence, acknowledged uint32, payload string) []byte {
	segment := binary.BigEndian.AppendUint32(ports(from, to), sequence)
	segment = binary.BigEndian.AppendUint32(segment, acknowledged)
	const window = 1 << 15
	segment = append(segment, 5<<4, flags, window>>8, window&0xff, 0, 0, 0, 0)
	segment = append(segment, payload...)
	const offset = 16
	binary.BigEndian.PutUint16(segment[offset:], checksum(pseudoHeader(from.Addr(), to.Addr(), unix.IPPROTO_TCP, segment), segment))
	return ip(from.Addr(), to.Addr(), unix.IPPROTO_TCP, segment)
}

func ports(from, to netip.AddrPort) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, from.Port()), to.Port())
}

// ip is a payload behind an IP header without options or extensions.
func ip(from, to netip.Addr, protocol uint8, payload []byte) []byte {
	if from.Is4() {
		return ip4(from, to, protocol, nil, payload)
	}
	return ip6(from, to, protocol, payload)
}

func ip4(from, to netip.Addr, protocol uint8, options, payload []byte) []byte {
	header := make([]byte, header4, header4+len(options)+len(payload))
	header[0] = 4<<4 | byte((header4+len(options))/4)
	binary.BigEndian.PutUint16(header[2:], uint16(header4+len(options)+len(payload)))
	header[8], header[9] = 64, protocol
	copy(header[12:], from.AsSlice())
	copy(header[16:], to.AsSlice())
	header = append(header, options...)
	binary.BigEndian.PutUint16(header[10:], checksum(header))
	return append(header, payload...)
}

func ip6(from, to netip.Addr, next uint8, payload []byte) []byte {
	header := make([]byte, header6, header6+len(payload))
	header[0] = 6 << 4
	binary.BigEndian.PutUint16(header[4:], uint16(len(payload)))
	header[6], header[7] = next, 64
	copy(header[8:], from.AsSlice())
	copy(header[24:], to.AsSlice())
	return append(header, payload...)
}

// extended6 is a UDP packet in IPv6 behind extension headers of these types,
// each of 8 bytes. A fragment header is that of the first fragment.
func extended6(from, to netip.AddrPort, payload string, extensions ...uint8) []byte {
	plain := udp(from, to, payload)
	next, rest := uint8(unix.IPPROTO_UDP), plain[header6:]
	for _, extension := range slices.Backward(extensions) {
		rest = append([]byte{next, 0, 0, 0, 0, 0, 0, 0}, rest...)
		next = extension
	}
	return ip6(from.Addr(), to.Addr(), next, rest)
}

// patched is the packet with other bytes at an offset.
func patched(packet []byte, offset int, bytes ...byte) []byte {
	copy(packet[offset:], bytes)
	return packet
}

// pseudoHeader is what the checksum of a UDP or TCP segment covers besides the
// segment.
func pseudoHeader(from, to netip.Addr, protocol uint8, segment []byte) []byte {
	header := append(from.AsSlice(), to.AsSlice()...)
	header = binary.BigEndian.AppendUint32(header, uint32(len(segment)))
	return binary.BigEndian.AppendUint32(header, uint32(protocol))
}

// checksum is that of RFC 1071, over parts of even length but for the last one.
// Over what includes a right checksum it is 0.
func checksum(parts ...[]byte) uint16 {
	var sum uint32
	for _, part := range parts {
		for i := 0; i+1 < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
		if len(part)%2 == 1 {
			sum += uint32(part[len(part)-1]) << 8
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// verify checks lengths and checksums of a UDP or TCP packet, all of which the
// receiver would check.
func verify(packet []byte) error {
	flow, segment := parse(packet)
	if segment == nil {
		return fmt.Errorf("no IP packet: %x", packet)
	}
	length := header6 + int(binary.BigEndian.Uint16(packet[4:]))
	if flow.Source.Addr().Is4() {
		length = int(binary.BigEndian.Uint16(packet[2:]))
		if sum := checksum(packet[:len(packet)-len(segment)]); sum != 0 {
			return fmt.Errorf("IP header checksum is off by %#04x", sum)
		}
	}
	if length != len(packet) {
		return fmt.Errorf("%d bytes, but the IP header says %d", len(packet), length)
	}
	pseudo := pseudoHeader(flow.Source.Addr(), flow.Destination.Addr(), flow.Protocol, segment)
	if sum := checksum(pseudo, segment); sum != 0 {
		return fmt.Errorf("checksum of %s is off by %#04x", flow, sum)
	}
	return nil
}

// data is the payload of a UDP or TCP packet.
func data(packet []byte) string {
	flow, segment := parse(packet)
	switch {
	case flow.Protocol == unix.IPPROTO_UDP && len(segment) >= 8:
		return string(segment[8:])
	case flow.Protocol == unix.IPPROTO_TCP && len(segment) >= 20:
		return string(segment[4*int(segment[12]>>4):])
	}
	return ""
}
