// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lazybpf/lazybpf/pkg/lazy"
)

var (
	peer = lazy.Key{1}
	wake = lazy.Wake{Reason: lazy.ReasonEgress}
)

// finderOf makes a finder whose name server is a function.
func finderOf(lookup func(ctx context.Context, host string) ([]netip.Addr, error)) *Finder {
	f := NewFinder()
	f.names.lookup = lookup
	return f
}

// script writes a shell script, to be used as a hook.
func script(t *testing.T, text string) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return []string{path, "one argument", "$HOME"}
}

// want fails the test unless these addresses were found.
func want(t *testing.T, found []netip.AddrPort, err error, addresses ...string) {
	t.Helper()
	var got []string
	for _, a := range found {
		got = append(got, a.String())
	}
	if err != nil || !slices.Equal(got, addresses) {
		t.Errorf("found %q, %v; want %q", got, err, addresses)
	}
}

func TestAddresses(t *testing.T) {
	f := finderOf(nil) // no name server is asked
	for _, endpoint := range []string{"192.0.2.1:51820", "[2001:db8::1]:51820"} {
		found, err := f.Find(t.Context(), Source{Endpoint: endpoint}, peer, wake)
		want(t, found, err, endpoint)
	}
	found, err := f.Find(t.Context(), Source{}, peer, wake)
	want(t, found, err)
	for _, endpoint := range []string{"192.0.2.1", "192.0.2.1:0", "host:0", "host:99999", ":1"} {
		if found, err := f.Find(t.Context(), Source{Endpoint: endpoint}, peer, wake); err == nil || !strings.Contains(err.Error(), endpoint) {
			t.Errorf("%s: found %v, %v; want an error that names it", endpoint, found, err)
		}
	}
}

// TestRealName has this machine look up a name.
func TestRealName(t *testing.T) {
	found, err := NewFinder().Find(t.Context(), Source{Endpoint: "localhost:51820"}, peer, wake)
	if err != nil || !slices.Contains(found, netip.MustParseAddrPort("127.0.0.1:51820")) {
		t.Errorf("found %v, %v", found, err)
	}
}

func TestNames(t *testing.T) {
	broken := errors.New("no such host")
	var answer []netip.Addr
	var failure error
	f := finderOf(func(_ context.Context, host string) ([]netip.Addr, error) {
		if host != "vpn.example.com" {
			t.Errorf("looked up %q", host)
		}
		return answer, failure
	})
	source := Source{Endpoint: "vpn.example.com:51820"}
	failure = broken
	if found, err := f.Find(t.Context(), source, peer, wake); !errors.Is(err, broken) {
		t.Errorf("found %v, %v; want the name server's error", found, err)
	}

	// All addresses, in the order in which they came, mapped ones as what they are.
	answer, failure = []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("::ffff:192.0.2.1")}, nil
	found, err := f.Find(t.Context(), source, peer, wake)
	want(t, found, err, "[2001:db8::1]:51820", "192.0.2.1:51820")

	// They are looked up each time, and those of the last time stand in where that fails.
	answer = answer[:1]
	found, err = f.Find(t.Context(), source, peer, wake)
	want(t, found, err, "[2001:db8::1]:51820")
	answer, failure = nil, broken
	found, err = f.Find(t.Context(), source, peer, wake)
	want(t, found, err, "[2001:db8::1]:51820")
}

// TestNameServerIsDown has names that were never looked up before: where WireGuard has an endpoint it keeps that, but not one
// of before a hook that says another.
func TestNameServerIsDown(t *testing.T) {
	broken := errors.New("no such host")
	f := finderOf(func(ctx context.Context, _ string) ([]netip.Addr, error) {
		if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > lookupTimeout {
			return nil, errors.New("the name server may take for ever")
		}
		return nil, broken
	})
	known := netip.MustParseAddrPort("192.0.2.1:1")
	found, err := f.Find(t.Context(), Source{Endpoint: "vpn.example.com:1", Known: known}, peer, wake)
	want(t, found, err)
	for name, source := range map[string]Source{
		"unknown": {Endpoint: "vpn.example.com:1"},
		"hook":    {Endpoint: "vpn.example.com:1", Known: known, Hook: script(t, "echo endpoint=new.example.com:1")},
	} {
		if found, err := f.Find(t.Context(), source, peer, wake); err == nil {
			t.Errorf("%s: found %v", name, found)
		}
	}
	for _, endpoint := range []string{"vpn.example.com", "vpn.example.com:nonsense"} {
		if found, err := f.Find(t.Context(), Source{Endpoint: endpoint, Known: known}, peer, wake); err == nil {
			t.Errorf("%s: found %v", endpoint, found)
		}
	}
}

// TestNameServerHangs gives it some time, once there are addresses from before.
func TestNameServerHangs(t *testing.T) {
	hangs := false
	f := finderOf(func(ctx context.Context, _ string) ([]netip.Addr, error) {
		if !hangs {
			return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
		}
		deadline, ok := ctx.Deadline()
		if !ok || time.Until(deadline) > lookupTimeout {
			t.Errorf("the name server may take until %v", deadline)
		}
		return nil, context.DeadlineExceeded
	})
	source := Source{Endpoint: "vpn.example.com:1"}
	for range 2 {
		found, err := f.Find(t.Context(), source, peer, wake)
		want(t, found, err, "192.0.2.1:1")
		hangs = true
	}
}

func TestHook(t *testing.T) {
	f := finderOf(nil)
	t.Setenv("SECRET", "of the daemon")
	source := Source{
		Interface: "wg0", Name: "office", Endpoint: "192.0.2.1:1",
		Hook: script(t, `echo "$1|$2|$*|$PWD"; env | sort; echo endpoint=192.0.2.2:2; echo ' endpoint=192.0.2.3:3 '`),
	}
	found, err := f.Find(t.Context(), source, peer, wake)
	want(t, found, err, "192.0.2.3:3")

	output, err := run(t.Context(), source.Hook, environment(source, peer, wake))
	if err != nil {
		t.Fatal(err)
	}
	wantOutput := strings.Join([]string{
		"one argument|$HOME|one argument $HOME|/",
		"LAZYBPF_ENDPOINT=192.0.2.1:1", "LAZYBPF_FLOW=", "LAZYBPF_INTERFACE=wg0", "LAZYBPF_NAME=office",
		"LAZYBPF_PEER=" + peer.String(), "LAZYBPF_REASON=egress",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "PWD=/",
		"endpoint=192.0.2.2:2", " endpoint=192.0.2.3:3 ", "",
	}, "\n")
	if output != wantOutput {
		t.Errorf("the hook printed\n%s\nwant\n%s", output, wantOutput)
	}

	source.Hook = script(t, "exit 0")
	found, err = f.Find(t.Context(), source, peer, wake)
	want(t, found, err, "192.0.2.1:1")
}

func TestHookFails(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"echo first >&2; echo cannot boot it >&2; exit 3", "exit status 3: cannot boot it"},
		{"exit 4", "exit status 4"},
		{`printf 'no \033[2J\007VM größer\r\n' >&2; exit 5`, "exit status 5: no [2JVM größer"},
		{"echo endpoint=nonsense", `endpoint "nonsense" is not host:port`},
	} {
		_, err := finderOf(nil).Find(t.Context(), Source{Hook: script(t, test.text)}, peer, wake)
		if err == nil || !strings.HasSuffix(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %s", test.text, err, test.want)
		}
	}
	_, err := finderOf(nil).Find(t.Context(), Source{Hook: []string{"/nonexistent"}}, peer, wake)
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v, want one that says that there is no such program", err)
	}
}

// TestHookTakesTooLong kills it with all that it has started.
func TestHookTakesTooLong(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	hook := script(t, "sleep 1000 &\necho $! $$ >"+pids+".new; mv "+pids+".new "+pids+"\nwait")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(pids); err == nil {
				cancel()
			}
			time.Sleep(time.Millisecond)
		}
	}()
	_, err := run(ctx, hook, nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
	text, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		for alive(pid) { // a moment, until the kernel is through
			time.Sleep(time.Millisecond)
		}
	}
}

// alive says whether a process runs: one that nobody has waited for does not.
func alive(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// TestHookLeavesSomethingRunning does not wait for it, nor kill it.
func TestHookLeavesSomethingRunning(t *testing.T) {
	output, err := run(t.Context(), script(t, "sleep 1000 &\necho $!"), nil)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(output))
	if err != nil {
		t.Fatal(err)
	}
	if !alive(pid) {
		t.Error("it was killed")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
}

// TestHookPrintsForEver is killed before it has filled the memory.
func TestHookPrintsForEver(t *testing.T) {
	for _, to := range []string{"", " >&2"} {
		_, err := run(t.Context(), script(t, "yes"+to), nil)
		if !errors.Is(err, errPrints) || !strings.HasSuffix(err.Error(), ": killed") {
			t.Errorf("yes%s: error %v, want %v", to, err, errPrints)
		}
	}
}

// TestHookPrintsMuch before it says where the peer is, or what is wrong: that comes last.
func TestHookPrintsMuch(t *testing.T) {
	const much = "head -c 1000000 /dev/zero | tr '\\0' x;"
	found, err := finderOf(nil).Find(t.Context(), Source{Hook: script(t, much+" echo; echo endpoint=192.0.2.1:1")}, peer, wake)
	want(t, found, err, "192.0.2.1:1")
	found, err = finderOf(nil).Find(t.Context(), Source{Hook: script(t, much+" echo endpoint=192.0.2.1:1")}, peer, wake)
	want(t, found, err) // within a line
	if output, err := run(t.Context(), script(t, much), nil); err != nil || len(output) > maxOutput {
		t.Errorf("read %d bytes, %v; want %d at most", len(output), err, maxOutput)
	}
	_, err = run(t.Context(), script(t, "{ "+much+" echo; echo cannot boot it; } >&2; exit 3"), nil)
	if err == nil || !strings.HasSuffix(err.Error(), "exit status 3: cannot boot it") {
		t.Errorf("error of %d bytes, want its last line", len(fmt.Sprint(err)))
	}
}
