// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// cookie is what the kernel calls the network namespace of a socket.
func cookie(t *testing.T, socket syscall.Conn) (c uint64) {
	t.Helper()
	raw, err := socket.SyscallConn()
	if err == nil {
		controlErr := raw.Control(func(fd uintptr) {
			c, err = unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		})
		err = errors.Join(err, controlErr)
	}
	if err != nil {
		t.Error("network namespace of a socket:", err)
	}
	return c
}

// TestSocketsAreMadeInTheNamespace asks the kernel where the sockets are, while many goroutines make threads change places.
func TestSocketsAreMadeInTheNamespace(t *testing.T) {
	n := newNetwork(t, Options{})
	cookies := make(map[*Host]uint64)
	for _, h := range []*Host{n.Here, n.There} {
		l, err := h.ListenUDP(netip.AddrPortFrom(h.UnderlayIPv4, 0))
		if err != nil {
			t.Fatal(err)
		}
		cookies[h] = cookie(t, l)
		l.Close()
	}
	if cookies[n.Here] == cookies[n.There] {
		t.Fatal("both hosts are in one namespace")
	}

	echo := make(map[*Host]*Echo)
	for _, h := range []*Host{n.Here, n.There} {
		e, err := h.ServeEcho()
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		for _, s := range e.sockets {
			if got := cookie(t, s.(syscall.Conn)); got != cookies[h] {
				t.Errorf("echo server of %s: socket in namespace %d, want %d", h.Name, got, cookies[h])
			}
		}
		echo[h] = e
	}

	// Both sides would ask for a session at once, and refuse the other.
	reach(t, n)

	ctx := soon(t)
	var wg sync.WaitGroup
	for i := range 40 {
		from, to := n.Here, n.There
		if i%2 == 1 {
			from, to = to, from
		}
		wg.Go(func() {
			tcp, err := from.DialTCP(ctx, echo[to].IPv6)
			if err != nil {
				t.Error(err)
				return
			}
			defer tcp.Close()
			udp, err := from.DialUDP(echo[to].IPv4)
			if err != nil {
				t.Error(err)
				return
			}
			defer udp.Close()
			pinger, err := from.NewPinger(to.IPv4)
			if err != nil {
				t.Error(err)
				return
			}
			defer pinger.Close()
			for _, s := range []syscall.Conn{tcp, udp, pinger.conn} {
				if got := cookie(t, s); got != cookies[from] {
					t.Errorf("%s: %T in namespace %d, want %d", from.Name, s, got, cookies[from])
				}
			}
		})
	}
	wg.Wait()
}

func TestDoNestsAndReturns(t *testing.T) {
	n := newNetwork(t, Options{})
	start := threadIsIn(t)
	failed := errors.New("failed")
	err := n.There.Do(func() error {
		there := threadIsIn(t)
		if there == start {
			t.Error("There is Here")
		}
		if err := n.Here.Do(func() error {
			if got := threadIsIn(t); got != start {
				t.Errorf("Here within There: %s, want %s", got, start)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		if got := threadIsIn(t); got != there {
			t.Errorf("after a nested Do: %s, want %s", got, there)
		}
		return failed
	})
	if !errors.Is(err, failed) {
		t.Errorf("error %v, want the function's", err)
	}
	if got := threadIsIn(t); got != start {
		t.Errorf("after Do: %s, want %s", got, start)
	}

	func() {
		defer func() { _ = recover() }()
		_ = n.There.Do(func() error { panic("in There") })
	}()
	if got := threadIsIn(t); got != start {
		t.Errorf("after a panic: %s, want %s", got, start)
	}
}

// threadIsIn names the network namespace of the calling thread.
func threadIsIn(t *testing.T) string {
	t.Helper()
	name, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Error(err)
	}
	return name
}

func TestDoAfterCloseFails(t *testing.T) {
	n := newNetwork(t, Options{})
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.There.Do(func() error { return nil }); err == nil {
		t.Error("There can still be entered")
	}
}
