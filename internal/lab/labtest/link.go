// SPDX-License-Identifier: Apache-2.0

package labtest

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
)

// Rename gives a link another name, which takes it being down.
func Rename(t testing.TB, from, to string) {
	t.Helper()
	link, err := netlink.LinkByName(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(netlink.LinkSetDown(link), netlink.LinkSetName(link, to), netlink.LinkSetUp(link)); err != nil {
		t.Fatal(err)
	}
}

// TUN makes a TUN device that no program has open, until the test ends.
func TUN(t testing.TB, name string) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	tun := &netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TUN}
	if err := netlink.LinkAdd(tun); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netlink.LinkDel(tun); err != nil {
			t.Error(err)
		}
	})
}
