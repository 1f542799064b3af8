// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/icmp"
	"golang.org/x/sys/unix"
)

// drop makes a link of the host drop every packet in one direction, netlink.HANDLE_MIN_EGRESS or netlink.HANDLE_MIN_INGRESS,
// until what it returns is called.
func drop(t *testing.T, h *Host, name string, direction uint32) (stop func()) {
	t.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:         ebpf.SchedCLS,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, int32(netlink.TC_ACT_SHOT)), asm.Return()},
		License:      "GPL",
	})
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()

	var clsact *netlink.GenericQdisc
	err = h.Do(func() error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		index := link.Attrs().Index
		clsact = &netlink.GenericQdisc{
			QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Parent: netlink.HANDLE_CLSACT, Handle: netlink.MakeHandle(0xffff, 0)},
			QdiscType:  "clsact",
		}
		if err := netlink.QdiscAdd(clsact); err != nil {
			return err
		}
		return netlink.FilterAdd(&netlink.BpfFilter{
			FilterAttrs:  netlink.FilterAttrs{LinkIndex: index, Parent: direction, Handle: 1, Protocol: unix.ETH_P_ALL, Priority: 1},
			Fd:           program.FD(),
			Name:         "drop",
			DirectAction: true,
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := h.Do(func() error { return netlink.QdiscDel(clsact) }); err != nil {
			t.Error(err)
		}
	}
}

func TestPingTellsOfALocalDrop(t *testing.T) {
	n := newNetwork(t, Options{})
	reach(t, n)
	stop := drop(t, n.Here, n.Here.Name, netlink.HANDLE_MIN_EGRESS)
	for _, to := range []netip.Addr{n.There.IPv4, n.There.IPv6} {
		if _, err := n.Here.Ping(soon(t), to); !errors.Is(err, unix.ENOBUFS) {
			t.Errorf("error %v, want ENOBUFS", err)
		}
	}
	stop()
	reach(t, n)
}

func TestPingWithoutReply(t *testing.T) {
	n := newNetwork(t, Options{})
	drop(t, n.There, n.There.Name, netlink.HANDLE_MIN_INGRESS)
	p, err := n.Here.NewPinger(n.There.IPv4)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := p.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the context's", err)
	}
	if got, want := p.Stats(), (PingStats{Sent: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestPingTellsOfICMPErrors has There refuse what it has no route for. The socket must not keep the errors: they would fill it.
func TestPingTellsOfICMPErrors(t *testing.T) {
	n := newNetwork(t, Options{ExtraAllowedIPs: []netip.Prefix{
		netip.MustParsePrefix("203.0.113.0/24"),
		netip.MustParsePrefix("fd0a::/64"),
	}})
	err := n.There.Do(func() error {
		return errors.Join(
			os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0),
			os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"203.0.113.1", "fd0a::1"} {
		p, err := n.Here.NewPinger(netip.MustParseAddr(to))
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		for range 2 { // the kernel sends a few more before it limits their rate
			if _, err := p.Ping(soon(t)); !errors.Is(err, unix.ENETUNREACH) {
				t.Errorf("error %v, want ENETUNREACH", err)
			}
		}
		raw, err := p.conn.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		err = raw.Control(func(fd uintptr) {
			if _, _, _, _, err := unix.Recvmsg(int(fd), nil, nil, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT); err != unix.EAGAIN {
				t.Errorf("reading the error queue: %v; want it empty", err)
			}
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// reply is what comes back for a request of the pinger's.
func reply(t *testing.T, p *Pinger, seq uint16, token uint64) []byte {
	t.Helper()
	m := icmp.Message{Type: p.family.reply, Body: &icmp.Echo{Seq: int(seq), Data: binary.BigEndian.AppendUint64(nil, token)}}
	packet, err := m.Marshal(nil)
	if err != nil {
		t.Fatal(err)
	}
	return packet
}

func TestPingerCounts(t *testing.T) {
	n := newNetwork(t, Options{})
	for _, to := range []netip.Addr{n.There.IPv4, n.There.IPv6} {
		p, err := n.Here.NewPinger(to)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		for range 10 {
			if _, err := p.Ping(soon(t)); err != nil {
				t.Error(err)
			}
		}
		p.accept(reply(t, p, 10, p.token), time.Now())
		p.accept(reply(t, p, 11, p.token+1), time.Now())
		if got, want := p.Stats(), (PingStats{Sent: 10, Received: 10, Duplicates: 1}); got != want {
			t.Errorf("%s: %+v, want %+v", to, got, want)
		}
	}
}
