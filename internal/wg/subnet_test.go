// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// Bug 1: idle teardown wiped the peer's routed (subnet) allowed IPs: the subnet was black-holed until someone pinged the
// overlay IP.
func TestBug01CloseLeavesSubnets(t *testing.T) {
	subnets := []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24"), netip.MustParsePrefix("fd09::/64")}
	n := labtest.Network(t, lab.Options{ExtraAllowedIPs: subnets})
	d := open(t, n.Here.Name)
	peers, err := d.Peers()
	if err != nil {
		t.Fatal(err)
	}
	c := NewConnector(d, nil)
	c.Adopt(peers[0], every, true)
	before := theirs(t, n).AllowedIPs
	if len(before) != 2+len(subnets) {
		t.Fatalf("the peer has the allowed IPs %v", before)
	}
	for range 2 {
		if err := c.Close(t.Context(), lazy.Key(n.There.PublicKey)); err != nil {
			t.Fatal(err)
		}
	}
	if after := theirs(t, n).AllowedIPs; !reflect.DeepEqual(after, before) {
		t.Errorf("a closed peer has the allowed IPs %v, before %v", after, before)
	}
}
