// SPDX-License-Identifier: Apache-2.0

package detect_test

import (
	"fmt"
	"log"
	"net"
	"net/netip"

	"golang.zx2c4.com/wireguard/wgctrl"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

// Watch the peers of wg0, of the kernel's WireGuard or wireguard-go, and say who
// is first to talk to each of them. It takes root.
func Example() {
	control, err := wgctrl.New()
	if err != nil {
		log.Fatal(err)
	}
	defer control.Close()
	device, err := control.Device("wg0")
	if err != nil {
		log.Fatal(err)
	}

	d, err := detect.New(detect.Options{Interface: device.Name})
	if err != nil {
		log.Fatal(err) // it says what is missing: a capability, a newer kernel, …
	}
	defer d.Close()
	peers := make(map[detect.ID]string)
	for _, peer := range device.Peers {
		id, err := d.Add(prefixes(peer.AllowedIPs))
		if err != nil {
			log.Fatal(err)
		}
		peers[id] = peer.PublicKey.String()
		if err := d.Arm(id, false); err != nil {
			log.Fatal(err)
		}
	}

	for event := range d.Events() { // until d is closed
		activity, err := d.Activity(event.ID)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s of user %d woke %s, %d packets so far\n",
			event.Flow, event.UID, peers[event.ID], activity.Packets())
	}
}

func prefixes(allowed []net.IPNet) (all []netip.Prefix) {
	for _, network := range allowed {
		address, _ := netip.AddrFromSlice(network.IP)
		bits, _ := network.Mask.Size()
		all = append(all, netip.PrefixFrom(address.Unmap(), bits))
	}
	return all
}
