// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/lazybpf/lazybpf/internal/wg"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// TestRoster compares rosters of random peers with maps of the same.
func TestRoster(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	draw := func() map[lazy.Key]string {
		all := make(map[lazy.Key]string)
		for range random.IntN(20) {
			key := lazy.Key{0: byte(random.IntN(3)), 31: byte(random.IntN(10))}
			all[key] = []string{"", "10.0.0.1/32", "10.0.0.1/32 10.0.0.2/32"}[random.IntN(3)]
		}
		return all
	}
	keys := func(peers []wg.Peer) map[lazy.Key]bool {
		set := make(map[lazy.Key]bool)
		for _, p := range peers {
			set[p.Key] = true
		}
		return set
	}
	for range 1000 {
		old, now := draw(), draw()
		before, after := peersOf(t, old), peersOf(t, now)
		added, changed, missing := after.since(before)
		wantAdded, wantChanged, wantMissing := make(map[lazy.Key]bool), make(map[lazy.Key]bool), make(map[lazy.Key]bool)
		for key, prefixes := range now {
			p, found := after.get(key)
			if !found || p.Key != key {
				t.Fatalf("%v has no peer %s", after, key)
			}
			switch had, ok := old[key]; {
			case !ok:
				wantAdded[key] = true
			case had != prefixes:
				wantChanged[key] = true
			case had != "":
				if q, _ := before.get(key); &p.AllowedIPs[0] != &q.AllowedIPs[0] {
					t.Errorf("%s has allowed IPs of its own", key)
				}
			}
		}
		for key := range old {
			if _, ok := now[key]; !ok {
				wantMissing[key] = true
				if _, found := after.get(key); found {
					t.Errorf("%v has a peer %s", after, key)
				}
			}
		}
		if !maps.Equal(keys(added), wantAdded) || !maps.Equal(keys(changed), wantChanged) || !maps.Equal(keys(missing), wantMissing) {
			t.Fatalf("from %v to %v: added %v, changed %v, missing %v", old, now, added, changed, missing)
		}
	}
}
