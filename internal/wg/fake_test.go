// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// fakeClient is a client made of functions. Those that are nil fail as if there was no device.
type fakeClient struct {
	device    func(name string) (*wgtypes.Device, error)
	configure func(name string, config wgtypes.Config) error
	close     func() error
}

func (f fakeClient) Device(name string) (*wgtypes.Device, error) {
	if f.device == nil {
		return nil, os.ErrNotExist
	}
	return f.device(name)
}

func (f fakeClient) ConfigureDevice(name string, config wgtypes.Config) error {
	if f.configure == nil {
		return os.ErrNotExist
	}
	return f.configure(name, config)
}

func (f fakeClient) Close() error {
	if f.close == nil {
		return nil
	}
	return f.close()
}

// newDevice makes a device of a client.
func newDevice(c client) *Device { return &Device{name: "wg0", read: c, write: c} }

// keyOf makes a public key that begins with n.
func keyOf(n byte) lazy.Key { return lazy.Key{n, 1} }

// every is the keepalive that peers of the tests have, unless they say otherwise.
const every = 25 * time.Second

// recorder notes the messages that a device gets, and has the keepalives that they set.
type recorder struct {
	t testing.TB
	// Called before a message counts, if there is one; an error refuses it.
	check func() error

	mu         sync.Mutex // guards what follows
	messages   []string
	keepalives map[lazy.Key]time.Duration
}

func newRecorder(t testing.TB) *recorder {
	return &recorder{t: t, keepalives: make(map[lazy.Key]time.Duration)}
}

func (r *recorder) client() client { return fakeClient{device: r.device, configure: r.configure} }

// peer is a peer of the device as it was read now.
func (r *recorder) peer(key lazy.Key) Peer {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Peer{Key: key, Keepalive: r.keepalives[key]}
}

// set gives the peers a keepalive as somebody else would.
func (r *recorder) set(keepalive time.Duration, peers ...lazy.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range peers {
		r.keepalives[key] = keepalive
	}
}

// take returns the messages since the last take, one line each.
func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.messages
	r.messages = nil
	return taken
}

func (r *recorder) device(string) (*wgtypes.Device, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	device := new(wgtypes.Device)
	for key, keepalive := range r.keepalives {
		device.Peers = append(device.Peers, wgtypes.Peer{
			PublicKey: wgtypes.Key(key), PersistentKeepaliveInterval: keepalive,
		})
	}
	return device, nil
}

// configure fails the test if a message has more than a peer's keepalive and endpoint, or would add a peer.
func (r *recorder) configure(name string, config wgtypes.Config) error {
	if r.check != nil {
		if err := r.check(); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if name != "wg0" {
		r.t.Errorf("message for %s", name)
	}
	var parts []string
	for _, p := range config.Peers {
		part := fmt.Sprintf("peer %d %s", p.PublicKey[0], *p.PersistentKeepaliveInterval)
		if p.Endpoint != nil {
			part += " at " + p.Endpoint.String()
		}
		parts = append(parts, part)
		r.keepalives[lazy.Key(p.PublicKey)] = *p.PersistentKeepaliveInterval
		bare := wgtypes.PeerConfig{
			PublicKey: p.PublicKey, UpdateOnly: true,
			PersistentKeepaliveInterval: p.PersistentKeepaliveInterval, Endpoint: p.Endpoint,
		}
		if !reflect.DeepEqual(p, bare) {
			r.t.Errorf("message has more than it should: %+v", p)
		}
	}
	if config.Peers = nil; !reflect.DeepEqual(config, wgtypes.Config{}) {
		r.t.Errorf("message changes the device: %+v", config)
	}
	slices.Sort(parts)
	r.messages = append(r.messages, strings.Join(parts, ", "))
	return nil
}

// resolve is a finder that finds all peers at one place; nil has nothing to find.
type resolve func(ctx context.Context, peer lazy.Key) (netip.AddrPort, error)

func (r resolve) Finds(lazy.Key) bool { return r != nil }

func (r resolve) Starts(lazy.Key) bool { return false }

func (r resolve) Find(ctx context.Context, peer lazy.Key, _ lazy.Wake) ([]netip.AddrPort, error) {
	endpoint, err := r(ctx, peer)
	if !endpoint.IsValid() {
		return nil, err
	}
	return []netip.AddrPort{endpoint}, err
}

// newConnector makes a connector that has adopted these peers, which have the usual keepalive.
func newConnector(r *recorder, find resolve, peers ...lazy.Key) *Connector {
	c := NewConnector(newDevice(r.client()), find)
	r.set(every, peers...)
	for _, key := range peers {
		c.Adopt(r.peer(key), every, true)
	}
	return c
}

// anybody is known to who asks.
func anybody(lazy.Key) bool { return true }
