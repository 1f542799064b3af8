// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"bytes"
	"slices"

	"github.com/lazybpf/lazybpf/internal/wg"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// roster is the peers of a device, in order of their keys. For so many peers as
// a device may have a map would take twice the memory, and longer to make.
type roster []wg.Peer

// newRoster puts peers in order, and takes the slice for itself.
func newRoster(peers []wg.Peer) roster {
	slices.SortFunc(peers, func(a, b wg.Peer) int { return bytes.Compare(a.Key[:], b.Key[:]) })
	return peers
}

// find says where the peer of a key is, if there is one.
func (r roster) find(key lazy.Key) (i int, found bool) {
	return slices.BinarySearchFunc(r, key, func(p wg.Peer, key lazy.Key) int { return bytes.Compare(p.Key[:], key[:]) })
}

// get returns the peer of a key, if there is one.
func (r roster) get(key lazy.Key) (p wg.Peer, found bool) {
	i, found := r.find(key)
	if found {
		p = r[i]
	}
	return p, found
}

// those returns the peers of keys, as far as they are there.
func (r roster) those(keys []lazy.Key) (peers []wg.Peer) {
	for _, key := range keys {
		if p, found := r.get(key); found {
			peers = append(peers, p)
		}
	}
	return peers
}

// has says whether there is a peer of a key.
func (r roster) has(key lazy.Key) bool {
	_, found := r.find(key)
	return found
}

// since returns what is different from an older roster: peers that were not
// there, peers that have other allowed IPs, and peers of the old one that are no
// longer there. Those that are the same share their allowed IPs from then on.
func (r roster) since(old roster) (added, changed, missing []wg.Peer) {
	for i := range r {
		p := &r[i]
		before, found := old.get(p.Key)
		switch {
		case !found:
			added = append(added, *p)
		case !slices.Equal(before.AllowedIPs, p.AllowedIPs):
			changed = append(changed, *p)
		default:
			p.AllowedIPs = before.AllowedIPs
		}
	}
	for _, p := range old {
		if !r.has(p.Key) {
			missing = append(missing, p)
		}
	}
	return added, changed, missing
}
