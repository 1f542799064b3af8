// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"net/netip"
	"testing"
)

// benchAddress is that of the n-th of many peers.
func benchAddress(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 7000)
}

// newCrowd makes a rig with so many peers of one address each.
func newCrowd(b *testing.B, peers int) (d detector, ids []ID) {
	b.Helper()
	d = newRig(b, Options{Peers: peers})
	for n := range peers {
		ids = append(ids, d.mustAdd(single(benchAddress(n))))
	}
	return d, ids
}

func BenchmarkArm(b *testing.B) {
	d, ids := newCrowd(b, 100_000)
	b.ResetTimer()
	for n := range b.N {
		if err := d.Arm(ids[n%len(ids)], false); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkActivity(b *testing.B) {
	d, ids := newCrowd(b, 100_000)
	b.ResetTimer()
	for n := range b.N {
		if _, err := d.Activity(ids[n%len(ids)]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWake measures the way from a packet to the one who waits for its
// event.
func BenchmarkWake(b *testing.B) {
	d, ids := newCrowd(b, 1)
	packet := udp(hostPort4, benchAddress(0), "a packet")
	for b.Loop() {
		d.mustArm(ids[0], false)
		d.run(Egress, packet, skb{})
		d.nextEvent()
	}
}

// BenchmarkAdd measures a peer of one address, with what growing costs.
func BenchmarkAdd(b *testing.B) {
	d := newRig(b, Options{})
	b.ResetTimer()
	for n := range b.N {
		d.mustAdd(single(benchAddress(n % (1 << 24))))
	}
}

// BenchmarkHold measures a packet that is held, and then sent by Open.
func BenchmarkHold(b *testing.B) {
	w := newTunnel(b, Options{})
	p := w.newPeer()
	for b.Loop() {
		w.d.mustArm(p.id, true)
		w.send(p.v4, "held")
		w.d.nextEvent()
		w.d.mustOpen(p.id)
		w.dev.next()
	}
}
