// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// ipNet is a prefix as netlink and wgctrl have it.
func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// standin is a WireGuard device that has no tunnel: a TUN device and a control
// socket that answers as wireguard-go's does. wireguard-go takes 2^16 peers, this
// as many as one likes; and what it answers costs next to nothing, so that the
// cost that is measured is the daemon's.
type standin struct {
	name     string
	readings atomic.Int64 // answers that were read to the end
	changes  atomic.Int64 // of peers, that somebody asked for
	listener net.Listener
	link     netlink.Link
	clients  sync.WaitGroup
}

// newStandin makes a device of made-up peers without keepalives, the first of
// which are connected: they had a handshake just now.
func newStandin(b testing.TB, peers, connected int) *standin {
	b.Helper()
	s := &standin{name: "standin0"}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = s.name
	s.link = &netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TUN, Flags: netlink.TUNTAP_NO_PI}
	if err := netlink.LinkAdd(s.link); err != nil {
		b.Fatal(err)
	}
	route := &netlink.Route{LinkIndex: s.link.Attrs().Index, Dst: ipNet(crowd), Scope: netlink.SCOPE_LINK}
	err := errors.Join(netlink.LinkSetUp(s.link), netlink.RouteAdd(route), os.MkdirAll("/var/run/wireguard", 0o755))
	if err == nil {
		s.listener, err = net.Listen("unix", "/var/run/wireguard/"+s.name+".sock")
	}
	if err != nil {
		b.Fatal(err)
	}
	answer := []byte(s.describe(peers, connected))
	s.clients.Go(func() {
		for {
			client, err := s.listener.Accept()
			if err != nil {
				return
			}
			s.clients.Go(func() { s.serve(client, answer) })
		}
	})
	return s
}

// describe is the answer to a get of wireguard-go's configuration protocol.
func (*standin) describe(peers, connected int) string {
	var text strings.Builder
	fmt.Fprintf(&text, "private_key=%064x\nlisten_port=51820\n", 0x40)
	for n := range peers {
		key := keyOf(n)
		var handshake int64
		if n < connected {
			handshake = time.Now().Unix()
		}
		fmt.Fprintf(&text, "public_key=%s\npreshared_key=%064x\nprotocol_version=1\nendpoint=192.0.2.1:%d\n"+
			"last_handshake_time_sec=%d\nlast_handshake_time_nsec=0\ntx_bytes=0\nrx_bytes=0\n"+
			"persistent_keepalive_interval=0\nallowed_ip=%s\n",
			hex.EncodeToString(key[:]), 0, 1024+n%1024, handshake, prefixOf(n))
	}
	text.WriteString("errno=0\n\n")
	return text.String()
}

// serve answers the requests of a client.
func (s *standin) serve(client net.Conn, answer []byte) {
	defer client.Close()
	for lines := bufio.NewScanner(client); lines.Scan(); {
		switch {
		case lines.Text() == "get=1":
			if _, err := client.Write(answer); err == nil {
				s.readings.Add(1)
			}
			return
		case strings.HasPrefix(lines.Text(), "public_key="):
			s.changes.Add(1)
		case lines.Text() == "": // the end of a request
			if _, err := client.Write([]byte("errno=0\n\n")); err != nil {
				return
			}
		}
	}
}

func (s *standin) close(b testing.TB) {
	b.Helper()
	err := errors.Join(s.listener.Close(), netlink.LinkDel(s.link))
	for _, file := range s.link.(*netlink.Tuntap).Fds {
		err = errors.Join(err, file.Close())
	}
	s.clients.Wait()
	if err != nil {
		b.Error(err)
	}
}
