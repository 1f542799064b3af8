// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// The packets of these tables go from a host to a peer, 10.7.0.2 or fd07::2.
var (
	hostPort4, hostPort6 = netip.AddrPortFrom(host4, 5000), netip.AddrPortFrom(host6, 5000)
	peerPort4, peerPort6 = peer4(2), peer6(2)
)

func TestProgramsPeerOfPacket(t *testing.T) {
	t.Parallel()
	d := newRig(t, Options{})
	peer := d.mustAdd(single(peerPort4), single(peerPort6))
	everyone := d.mustAdd(netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::/0"))
	nobody := Stats{Unrouted: 1}

	v4 := func(to string) []byte {
		return udp(hostPort4, netip.AddrPortFrom(netip.MustParseAddr(to), 53), "query")
	}
	v6 := func(to string) []byte {
		return udp(hostPort6, netip.AddrPortFrom(netip.MustParseAddr(to), 53), "query")
	}
	// A test run takes bytes 12 and 13 for the EtherType: here those of the
	// other family.
	lying4 := udp(netip.MustParseAddrPort("134.221.0.1:1"), peerPort4, "says it is IPv6, and is as long as that takes")
	lying6 := udp(netip.MustParseAddrPort("[2001:db8:800::1]:1"), peerPort6, "says it is IPv4")

	for name, test := range map[string]struct {
		packet []byte
		peer   ID
		stats  Stats
	}{
		"IPv4":                            {v4("10.7.0.2"), peer, Stats{}},
		"IPv4, shorter prefix":            {v4("10.7.0.3"), everyone, Stats{}},
		"IPv4, not by ::/0":               {v4("11.7.0.3"), 0, nobody},
		"IPv4, options":                   {ip4(host4, peerPort4.Addr(), unix.IPPROTO_UDP, make([]byte, 40), ports(hostPort4, peerPort4)), peer, Stats{}},
		"IPv4, header only":               {ip(host4, peerPort4.Addr(), unix.IPPROTO_UDP, nil), peer, Stats{}},
		"IPv4, impossible header":         {patched(v4("10.7.0.2"), 0, 4<<4|1), peer, Stats{}},
		"IPv4, fragment":                  {patched(v4("10.7.0.2"), 6, 0x20, 0x01), peer, Stats{}},
		"IPv4, unknown protocol":          {ip(host4, peerPort4.Addr(), 253, []byte("?")), peer, Stats{}},
		"IPv4, wrong EtherType":           {lying4, peer, Stats{}},
		"IPv4, group":                     {v4("224.0.1.1"), 0, nobody},
		"IPv6":                            {v6("fd07::2"), peer, Stats{}},
		"IPv6, shorter prefix":            {v6("2001:db8::1"), everyone, Stats{}},
		"IPv6, extension headers":         {extended6(hostPort6, peerPort6, "query", unix.IPPROTO_HOPOPTS, unix.IPPROTO_DSTOPTS), peer, Stats{}},
		"IPv6, fragment":                  {extended6(hostPort6, peerPort6, "query", unix.IPPROTO_FRAGMENT), peer, Stats{}},
		"IPv6, header only":               {ip(host6, peerPort6.Addr(), unix.IPPROTO_NONE, nil), peer, Stats{}},
		"IPv6, wrong EtherType":           {lying6, peer, Stats{}},
		"IPv6, IPv4-mapped":               {v6("::ffff:10.7.0.2"), everyone, Stats{}},
		"IPv6, group":                     {v6("ff05::2"), everyone, Stats{}},
		"version 0":                       {patched(v4("10.7.0.2"), 0, 0x05), 0, Stats{Malformed: 1}},
		"version 5":                       {patched(v4("10.7.0.2"), 0, 0x55), 0, Stats{Malformed: 1}},
		"version 15":                      {patched(v4("10.7.0.2"), 0, 0xf5), 0, Stats{Malformed: 1}},
		"link-local group":                {v4("224.0.0.251"), 0, Stats{Ignored: 1}},
		"first link-local group":          {v4("224.0.0.0"), 0, Stats{Ignored: 1}},
		"after link-local groups":         {v4("224.0.1.0"), 0, nobody},
		"limited broadcast":               {v4("255.255.255.255"), 0, Stats{Ignored: 1}},
		"not quite that":                  {v4("255.255.255.254"), 0, nobody},
		"IPv6 link-local group":           {v6("ff02::16"), 0, Stats{Ignored: 1}},
		"IPv6 transient link-local group": {v6("ff12::8384"), 0, Stats{Ignored: 1}},
		"IPv6 transient site-local group": {v6("ff15::8384"), everyone, Stats{}},
		"IPv6 interface-local group":      {v6("ff01::1"), everyone, Stats{}},
		"last IPv6 link-local group":      {v6("ff02:ffff::1"), 0, Stats{Ignored: 1}},
		"after link-local groups of IPv6": {v6("ff03::1"), everyone, Stats{}},
	} {
		t.Run(name, func(t *testing.T) {
			d.t = t
			counted := d.counts(peer, everyone)
			if verdict := d.run(Egress, test.packet, skb{}); verdict != pass {
				t.Errorf("verdict %d, want %d", verdict, pass)
			}
			counted.expect(Egress, test.peer, 1, len(test.packet), test.stats)
		})
	}
}

// TestProgramsIngress looks at the source: what goes to the host from a peer.
func TestProgramsIngress(t *testing.T) {
	t.Parallel()
	d := newRig(t, Options{})
	peer := d.mustAdd(single(peerPort4), single(peerPort6))
	for name, test := range map[string]struct {
		packet []byte
		peer   ID
		stats  Stats
	}{
		"IPv4":              {udp(peerPort4, hostPort4, "answer"), peer, Stats{}},
		"IPv4 of nobody":    {udp(hostPort4, peerPort4, "query"), 0, Stats{Unrouted: 1}},
		"IPv4 to a group":   {udp(peerPort4, netip.MustParseAddrPort("224.0.0.251:5353"), "mDNS"), 0, Stats{Ignored: 1}},
		"IPv6":              {udp(peerPort6, hostPort6, "answer"), peer, Stats{}},
		"IPv6 of nobody":    {udp(hostPort6, peerPort6, "query"), 0, Stats{Unrouted: 1}},
		"IPv6 to a group":   {udp(peerPort6, netip.MustParseAddrPort("[ff02::fb]:5353"), "mDNS"), 0, Stats{Ignored: 1}},
		"no version of IP":  {patched(udp(peerPort4, hostPort4, "answer"), 0, 0x75), 0, Stats{Malformed: 1}},
		"shorter than IPv6": {udp(peerPort6, hostPort6, "answer")[:39], 0, Stats{Malformed: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			d.t = t
			counted := d.counts(peer)
			if verdict := d.run(Ingress, test.packet, skb{}); verdict != pass {
				t.Errorf("verdict %d, want %d", verdict, pass)
			}
			counted.expect(Ingress, test.peer, 1, len(test.packet), test.stats)
		})
	}
}

// TestProgramsTruncated cuts packets at every length that a test run takes.
// TestShortPackets has the shorter ones.
func TestProgramsTruncated(t *testing.T) {
	t.Parallel()
	const shortest = 14
	d := newRig(t, Options{})
	peer := d.mustAdd(single(peerPort4), single(peerPort6))
	for _, test := range []struct {
		packet []byte
		header int
	}{
		{udp(hostPort4, peerPort4, "a payload"), header4},
		{udp(hostPort6, peerPort6, "a payload"), header6},
	} {
		for length := shortest; length <= len(test.packet); length++ {
			for _, direction := range []Direction{Egress, Ingress} {
				packet := test.packet[:length]
				counted := d.counts(peer)
				if verdict := d.run(direction, packet, skb{}); verdict != pass {
					t.Errorf("%s, %d bytes: verdict %d, want %d", direction, length, verdict, pass)
				}
				switch {
				case length < test.header:
					counted.expect(direction, 0, 0, 0, Stats{Malformed: 1})
				case direction == Egress:
					counted.expect(Egress, peer, 1, length, Stats{})
				default:
					counted.expect(Ingress, 0, 0, 0, Stats{Unrouted: 1})
				}
			}
		}
	}
}

func TestProgramsCountMulticast(t *testing.T) {
	t.Parallel()
	d := newRig(t, Options{CountMulticast: true})
	all := d.mustAdd(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"))
	for _, group := range []string{"224.0.0.251", "255.255.255.255", "ff02::fb", "ff12::8384"} {
		to := netip.AddrPortFrom(netip.MustParseAddr(group), 5353)
		packet := udp(hostPort4, to, "mDNS")
		if to.Addr().Is6() {
			packet = udp(hostPort6, to, "mDNS")
		}
		for _, direction := range []Direction{Egress, Ingress} {
			counted := d.counts(all)
			d.run(direction, packet, skb{})
			counted.expect(direction, all, 1, len(packet), Stats{})
		}
	}
}

// TestProgramsGSO has packets that the kernel handles as one.
func TestProgramsGSO(t *testing.T) {
	t.Parallel()
	d := newRig(t, Options{})
	peer := d.mustAdd(single(peerPort4))
	payload := string(make([]byte, 2500))
	for name, test := range map[string]struct {
		context skb
		packets uint64
	}{
		"one packet":                   {skb{}, 1},
		"ten segments":                 {skb{GSOSegs: 10, GSOSize: 250}, 10},
		"one segment":                  {skb{GSOSegs: 1, GSOSize: 2500}, 1},
		"segments that nobody counted": {skb{GSOSize: 500}, 5},
		"the last one is smaller":      {skb{GSOSize: 1200}, 3},
		"the last one is tiny":         {skb{GSOSize: 2499}, 2},
		"larger than the packet":       {skb{GSOSize: 9000}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			d.t = t
			for direction, packet := range [][]byte{
				Egress: udp(hostPort4, peerPort4, payload), Ingress: udp(peerPort4, hostPort4, payload),
			} {
				counted := d.counts(peer)
				d.run(Direction(direction), packet, test.context)
				counted.expect(Direction(direction), peer, test.packets, len(packet), Stats{})
			}
		})
	}
}

// counts is what a detector had counted at some time.
type counts struct {
	d     detector
	peers map[ID]Activity
	stats Stats
}

func (d detector) counts(peers ...ID) counts {
	d.t.Helper()
	c := counts{d, make(map[ID]Activity), d.mustStats()}
	for _, id := range peers {
		c.peers[id] = d.mustActivity(id)
	}
	return c
}

// expect fails the test unless since then so much was counted: for the peer of
// that ID alone, and in the statistics.
func (c counts) expect(direction Direction, peer ID, packets uint64, bytes int, stats Stats) {
	c.d.t.Helper()
	for id, before := range c.peers {
		var want Activity
		switch {
		case id != peer:
		case direction == Egress:
			want = Activity{TxPackets: packets, TxBytes: uint64(bytes)}
		default:
			want = Activity{RxPackets: packets, RxBytes: uint64(bytes)}
		}
		after := c.d.mustActivity(id)
		got := Activity{
			TxPackets: after.TxPackets - before.TxPackets, TxBytes: after.TxBytes - before.TxBytes,
			RxPackets: after.RxPackets - before.RxPackets, RxBytes: after.RxBytes - before.RxBytes,
			Held: after.Held - before.Held,
		}
		if got != want {
			c.d.t.Errorf("%s counted for peer %s:\ngot  %+v\nwant %+v", direction, id, got, want)
		}
	}
	after := c.d.mustStats()
	got := Stats{
		Unrouted: after.Unrouted - c.stats.Unrouted, Ignored: after.Ignored - c.stats.Ignored,
		Malformed: after.Malformed - c.stats.Malformed, EventsLost: after.EventsLost - c.stats.EventsLost,
	}
	if got != stats {
		c.d.t.Errorf("%s counted for no peer:\ngot  %+v\nwant %+v", direction, got, stats)
	}
}
