// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"fmt"
	"io"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// presharedKey is the preshared key of a peer, or none. It is the one type here
// that has a secret, and it tells nobody but who calls reveal. The key is inside
// a function, since fmt shows fields that are not exported without asking their
// methods, and for a wrong verb looks behind pointers, too.
type presharedKey struct{ key func() *wgtypes.Key }

func newPresharedKey(key wgtypes.Key) presharedKey {
	if key == (wgtypes.Key{}) {
		return presharedKey{}
	}
	return presharedKey{func() *wgtypes.Key { return &key }}
}

// reveal returns the key, nil if there is none. It is for the device, and for
// the file of evicted peers.
func (k presharedKey) reveal() *wgtypes.Key {
	if k.key == nil {
		return nil
	}
	return k.key()
}

// What a preshared key says of itself, whether there is one or not.
const hidden = "(hidden)"

// String returns "(hidden)".
func (presharedKey) String() string { return hidden }

// GoString returns "(hidden)".
func (presharedKey) GoString() string { return hidden }

// Format writes "(hidden)", whatever the verb.
func (presharedKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalText returns "(hidden)": for JSON, too.
func (presharedKey) MarshalText() ([]byte, error) { return []byte(hidden), nil }
