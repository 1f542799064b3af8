// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

func TestPeers(t *testing.T) {
	ipNet := func(ip net.IP, ones, bits int) net.IPNet { return net.IPNet{IP: ip, Mask: net.CIDRMask(ones, bits)} }
	shook := time.Now()
	d := newDevice(fakeClient{device: func(name string) (*wgtypes.Device, error) {
		if name != "wg0" {
			t.Errorf("device %s is read", name)
		}
		return &wgtypes.Device{Peers: []wgtypes.Peer{
			{
				PublicKey: wgtypes.Key(keyOf(1)),
				// As a socket for both families says it.
				Endpoint:                    &net.UDPAddr{IP: net.ParseIP("::ffff:192.0.2.1"), Port: 51820},
				PersistentKeepaliveInterval: every,
				LastHandshakeTime:           shook,
				AllowedIPs: []net.IPNet{
					ipNet(net.IP{10, 0, 0, 2}, 32, 32),
					ipNet(net.ParseIP("10.9.0.0"), 24, 32), // in 16 bytes
					ipNet(net.ParseIP("fd00::2"), 128, 128),
					ipNet(net.IPv4zero, 0, 32),
					ipNet(net.IPv6zero, 0, 128),
				},
			},
			{PublicKey: wgtypes.Key(keyOf(2)), Endpoint: &net.UDPAddr{IP: net.ParseIP("2001:db8::1"), Port: 1}},
			{PublicKey: wgtypes.Key(keyOf(3))},
		}}, nil
	}})
	got, err := d.Peers()
	if err != nil {
		t.Fatal(err)
	}
	want := []Peer{
		{
			Key:           keyOf(1),
			Endpoint:      netip.MustParseAddrPort("192.0.2.1:51820"),
			Keepalive:     every,
			LastHandshake: shook,
			AllowedIPs: []netip.Prefix{
				netip.MustParsePrefix("0.0.0.0/0"),
				netip.MustParsePrefix("10.0.0.2/32"),
				netip.MustParsePrefix("10.9.0.0/24"),
				netip.MustParsePrefix("::/0"),
				netip.MustParsePrefix("fd00::2/128"),
			},
		},
		{Key: keyOf(2), Endpoint: netip.MustParseAddrPort("[2001:db8::1]:1")},
		{Key: keyOf(3)},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("peers\n%+v, want\n%+v", got, want)
	}
}

func TestConfigure(t *testing.T) {
	r := newRecorder(t)
	d := newDevice(r.client())
	if err := d.Configure(); err != nil || len(r.take()) > 0 {
		t.Errorf("no change is no message: %v", err)
	}
	err := d.Configure(
		Change{Key: keyOf(1), Keepalive: every},
		Change{Key: keyOf(2), Endpoint: netip.MustParseAddrPort("192.0.2.1:51820")},
	)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := r.take(), []string{"peer 1 25s, peer 2 0s at 192.0.2.1:51820"}; !slices.Equal(got, want) {
		t.Errorf("messages %q, want %q", got, want)
	}
}

func TestErrors(t *testing.T) {
	for _, test := range []struct {
		says, want error
	}{
		{os.ErrNotExist, ErrNoDevice},
		{os.NewSyscallError("netlink receive", unix.EPERM), ErrPermission},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", unix.EACCES)}, ErrPermission},
		// What a wireguard-go that was killed has left.
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", unix.ECONNREFUSED)}, ErrNoDevice},
		{io.ErrUnexpectedEOF, io.ErrUnexpectedEOF},
	} {
		d := newDevice(fakeClient{
			device:    func(string) (*wgtypes.Device, error) { return nil, test.says },
			configure: func(string, wgtypes.Config) error { return test.says },
		})
		_, reading := d.Peers()
		for verb, err := range map[string]error{"read": reading, "configure": d.Configure(Change{})} {
			if !errors.Is(err, test.want) || !strings.HasPrefix(err.Error(), verb+" wg0: ") {
				t.Errorf("%v: error %v, want %q of wg0: %v", test.says, err, verb, test.want)
			}
		}
	}
}

func TestClose(t *testing.T) {
	first, second := errors.New("first"), errors.New("second")
	d := &Device{
		read:  fakeClient{close: func() error { return first }},
		write: fakeClient{close: func() error { return second }},
	}
	if err := d.Close(); !errors.Is(err, first) || !errors.Is(err, second) {
		t.Errorf("error %v, want those of both clients", err)
	}
}
