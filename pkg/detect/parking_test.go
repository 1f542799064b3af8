// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"errors"
	"net/netip"
	"os"
	"testing"
)

// TestParkingSaysNothing has the kernel forward IPv6, for which it joins a group
// on each device and reports that there: on the parking device it would wake
// whoever has ::/0.
func TestParkingSaysNothing(t *testing.T) {
	const settings = "/proc/sys/net/ipv6/conf/"
	set := func(value string) {
		t.Helper()
		if err := os.WriteFile(settings+"all/forwarding", []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	set("1")
	defer set("0")
	dev := newDevice(t)
	newDetector(t, Options{Interface: dev.name})
	if _, err := os.Stat(settings + dev.name); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(settings + parkingName(dev.index)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the parking device has IPv6: %v", err)
	}
}

// TestParkingForeign has somebody send to all devices there are, as DHCP clients
// do. What the programs would not have held is no peer's, and what they hold
// comes out.
func TestParkingForeign(t *testing.T) {
	groups := map[string][]string{"link": {"255.255.255.255", "224.0.0.251", "ff02::16", "ff12::8384"}, "site": {"ff05::2"}}
	for name, test := range map[string]struct {
		options Options
		counts  []string
	}{
		"not counted": {Options{}, groups["site"]},
		"counted":     {Options{CountMulticast: true}, append(groups["link"], groups["site"]...)},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTunnel(t, test.options)
			everyone := w.d.mustAdd(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"))
			w.d.mustArm(everyone, true)
			raw, err := newReplayer(w.d.parking.index)
			if err != nil {
				t.Fatal(err)
			}
			defer raw.close()
			for _, group := range append(groups["link"], groups["site"]...) {
				to := netip.AddrPortFrom(netip.MustParseAddr(group), 67)
				packet := udp(hostPort4, to, group)
				if to.Addr().Is6() {
					packet = udp(hostPort6, to, group)
				}
				if err := raw.send(heldPacket{bytes: packet, protocol: protocolOf(packet)}); err != nil {
					t.Fatal(err)
				}
			}
			w.park()
			held := 0
			if err := w.d.parking.do(func(p *parking) { held = len(p.queue(everyone).packets) }); err != nil {
				t.Fatal(err)
			}
			if held != len(test.counts) {
				t.Errorf("%d packets are held, want %q", held, test.counts)
			}
			if events := w.d.raised(); len(events) != 1 || events[0].Flow.Destination.Addr().String() != test.counts[0] {
				t.Errorf("raised %+v, want one event, to %s", events, test.counts[0])
			}
		})
	}
}
