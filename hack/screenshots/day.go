// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/internal/lab"
)

// Spokes and strangers have parts in this play.
const (
	office, laptop, nas, builder, phone = 0, 1, 2, 3, 4 // spokes
	depot, garage                       = 0, 1          // strangers
)

// policy is what the daemon is told: the builder takes time to be opened, and the garage cannot be.
func (h *hub) policy() (text string) {
	peer := func(name string, key wgtypes.Key, more string) {
		text += fmt.Sprintf("[peers.%s]\npublic-key = %q\n%s\n", name, key, more)
	}
	peer("office", h.networks[office].There.PublicKey, "")
	peer("laptop", h.networks[laptop].There.PublicKey, "")
	peer("nas", h.networks[nas].There.PublicKey, "")
	peer("builder", h.networks[builder].There.PublicKey, `hook = ["/bin/sleep", "0.2"]`)
	peer("phone", h.networks[phone].There.PublicKey, "")
	peer("depot", h.strangers[depot], "")
	peer("garage", h.strangers[garage], `hook = ["/bin/false"]`)
	return text
}

// spend lets the peers come and go for a day.
func (h *hub) spend(day time.Duration) error {
	ctx, cancel := context.WithTimeout(h.ctx, day)
	defer cancel()
	here, there := h.here(), func(i int) *lab.Host { return h.networks[i].There }
	// The strangers' networks, and some that are nobody's.
	if err := route(network(stranger(0), 16), here.Name); err != nil {
		return err
	}
	talks := func(begin, awake, asleep time.Duration, talk func(context.Context)) {
		h.talking.Go(func() {
			for more := pause(ctx, begin); more; more = pause(ctx, asleep) {
				spell, cancel := context.WithTimeout(ctx, awake)
				talk(spell)
				<-spell.Done()
				cancel()
			}
		})
	}
	const s = time.Second
	talks(0, 45*s, 20*s, func(ctx context.Context) { h.stream(ctx, there(office), 10) })
	talks(20*s, 15*s, 30*s, func(ctx context.Context) { h.stream(ctx, there(laptop), 3) })
	talks(5*s, 10*s, 12*s, func(ctx context.Context) { ping(ctx, here, there(nas).IPv4, 300*time.Millisecond) })
	talks(10*s, 20*s, 15*s, func(ctx context.Context) { h.stream(ctx, there(builder), 5) })
	talks(35*s, 5*s, 25*s, func(ctx context.Context) { ping(ctx, there(phone), here.IPv4, 200*time.Millisecond) })
	// Those who never answer, and an address that is nobody's.
	talks(day/4, day, 0, func(ctx context.Context) { knock(ctx, here, stranger(depot)) })
	talks(30*s, 2*s, 40*s, func(ctx context.Context) { knock(ctx, here, stranger(garage)) })
	talks(40*s, 15*s, 70*s, func(ctx context.Context) { knock(ctx, here, stranger(strangers)) })
	// Somebody scans all of them.
	talks(day/2, day, 0, func(ctx context.Context) {
		for i := range strangers {
			first, cancel := context.WithTimeout(ctx, knocking/2)
			knock(first, here, stranger(i))
			cancel()
		}
	})
	talks(day/6, day, 0, h.administer)
	h.talking.Wait()
	return h.ctx.Err()
}

// stranger is an address in the network of one.
func stranger(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 20, byte(i), 1}) }

const knocking = time.Second / 2

// knock sends a packet that nobody answers, again and again.
func knock(ctx context.Context, from *lab.Host, to netip.Addr) {
	conn, err := from.DialUDP(netip.AddrPortFrom(to, 9))
	if err != nil {
		return
	}
	defer conn.Close()
	repeat(ctx, knocking, func() { _, _ = conn.Write([]byte("knock")) })
}

// administer does what others do to the interface behind the daemon's back.
func (h *hub) administer(ctx context.Context) {
	guest := wgtypes.PeerConfig{PublicKey: h.strangers[strangers], AllowedIPs: []net.IPNet{network(stranger(strangers+1), 24)}}
	moved := wgtypes.PeerConfig{PublicKey: h.strangers[depot], UpdateOnly: true, PersistentKeepaliveInterval: new(20 * time.Second)}
	gone := guest
	gone.Remove = true
	for _, change := range []wgtypes.PeerConfig{guest, moved, gone} {
		_ = h.here().Configure(wgtypes.Config{Peers: []wgtypes.PeerConfig{change}})
		if !pause(ctx, 40*time.Second) {
			return
		}
	}
}
