// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/internal/daemon"
	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/pkg/control"
)

// TestScripts runs the sessions in testdata/script with the real command and real WireGuard. Beside testscript's own
// commands they have lazybpf itself, unprivileged, and those below.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			env.Setenv("GORACE", "atexit_sleep_ms=0") // or each command takes a second longer
			env.Values[scriptKey{}] = new(script)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"network":   command(network, "network [KEEPALIVE]", 0, 1),
			"peer":      command(peer, "peer KEY PREFIX|remove [KEEPALIVE]", 2, 3),
			"keepalive": command(keepalive, "keepalive KEY DURATION", 2, 2),
			"ping":      command(ping, "ping ADDRESS", 1, 1),
			"interface": command(changeInterface, "interface down|up|replace", 1, 1),
			"clean":     command(clean, "clean", 0, 0),
			"until":     command(until, "until PATTERN FILE COMMAND...", 3, 99),
			"fails":     command(fails, "fails CODE COMMAND...", 2, 99),
			"json":      command(checkJSON, "json PATH PATTERN", 2, 2),
			"signal":    command(sendSignal, "signal NAME WORD", 2, 2),
		},
		// Not in a chroot, as that of the VMs, nor where a sysctl forbids it.
		Condition: func(name string) (bool, error) {
			if name != "userns" {
				return false, fmt.Errorf("no condition %s", name)
			}
			return exec.Command("unshare", "--user", "--map-root-user", "true").Run() == nil, nil
		},
		RequireUniqueNames: true,
	})
}

// script is what the commands of a script know.
type script struct {
	*testscript.TestScript
	network *lab.Network
	index   int // of its interface Here
}

type scriptKey struct{}

// command makes a command of a script of a function. It takes so many arguments and cannot be negated.
func command(do func(s *script, args []string), usage string, least, most int) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) < least || len(args) > most {
			ts.Fatalf("usage: %s", usage)
		}
		s := ts.Value(scriptKey{}).(*script)
		s.TestScript = ts
		do(s, args)
	}
}

// patience is how long a script waits for what should happen at once.
const patience = 30 * time.Second

// soon waits until something is true.
func (s *script) soon(what string, isTrue func() bool) { soon(s, what, isTrue) }

func soon(t interface{ Fatalf(string, ...any) }, what string, isTrue func() bool) {
	for begin := time.Now(); !isTrue(); time.Sleep(25 * time.Millisecond) {
		if time.Since(begin) > patience {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

func (s *script) duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	s.Check(err)
	return d
}

// network builds a network for the rest of the script, and says in the environment what it has: Here the interface $IFACE
// on the underlay $VETH, with the files $SOCKET, $JOURNAL and $PINS; There the peer $PEER with $ADDR and $ADDR6, $AT an endpoint.
func network(s *script, args []string) {
	var opts lab.Options
	if len(args) > 0 {
		opts.Keepalive = s.duration(args[0])
	}
	n, err := lab.New(opts)
	s.Check(err)
	s.network = n
	s.Defer(func() { s.Check(n.Close()) })
	s.lookUp()
	for name, value := range map[string]string{
		"IFACE":   n.Here.Name,
		"VETH":    strings.Replace(n.Here.Name, "wg", "veth", 1),
		"SOCKET":  control.Path(n.Here.Name),
		"JOURNAL": string(daemon.JournalOf(control.Path(n.Here.Name))),
		"PINS":    daemon.PinDir(defaultBPFFS, n.Here.Name),
		"PEER":    n.There.PublicKey.String(),
		"ADDR":    n.There.IPv4.String(),
		"ADDR6":   n.There.IPv6.String(),
		"AT":      n.There.Endpoint.String(), // where the peer is
	} {
		s.Setenv(name, value)
	}
}

func (s *script) lookUp() {
	iface, err := net.InterfaceByName(s.network.Here.Name)
	s.Check(err)
	s.index = iface.Index
}

// peer adds a peer, changes it, or removes it, as wg set does.
func peer(s *script, args []string) {
	key, err := wgtypes.ParseKey(args[0])
	s.Check(err)
	p := wgtypes.PeerConfig{PublicKey: key, Remove: args[1] == "remove"}
	if !p.Remove {
		_, prefix, err := net.ParseCIDR(args[1])
		s.Check(err)
		p.AllowedIPs = []net.IPNet{*prefix}
	}
	if len(args) > 2 {
		p.PersistentKeepaliveInterval = new(s.duration(args[2]))
	}
	s.Check(s.network.Here.Configure(wgtypes.Config{Peers: []wgtypes.PeerConfig{p}}))
}

// keepalive waits until the interface has this keepalive for the peer.
func keepalive(s *script, args []string) {
	key, err := wgtypes.ParseKey(args[0])
	s.Check(err)
	want := s.duration(args[1])
	s.soon("keepalive "+args[1], func() bool {
		device, err := s.network.Here.Device()
		s.Check(err)
		return slices.ContainsFunc(device.Peers, func(p wgtypes.Peer) bool {
			return p.PublicKey == key && p.PersistentKeepaliveInterval == want
		})
	})
}

// ping sends one packet from Here, which must be answered.
func ping(s *script, args []string) {
	to, err := netip.ParseAddr(args[0])
	s.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err = s.network.Here.Ping(ctx, to)
	s.Check(err)
}

// changeInterface takes the WireGuard interface Here away, as wg-quick down does, or makes it again, or both.
func changeInterface(s *script, args []string) {
	if args[0] != "up" {
		s.Check(s.network.Down())
	}
	if args[0] != "down" {
		s.Check(s.network.Up(nil))
		s.lookUp()
	}
}

// clean checks that lazybpf has left nothing.
func clean(s *script, _ []string) {
	for _, name := range []string{"SOCKET", "JOURNAL", "PINS"} {
		left, err := filepath.Glob(s.Getenv(name) + "*")
		s.Check(err)
		if len(left) > 0 {
			s.Fatalf("left: %s", left)
		}
	}
	if l, err := netlink.LinkByName(fmt.Sprintf("lazy%d", s.index)); err == nil {
		s.Fatalf("left: the parking device %s", l.Attrs().Name)
	}
	device, err := netlink.LinkByIndex(s.index)
	if missing := (netlink.LinkNotFoundError{}); errors.As(err, &missing) {
		return
	}
	s.Check(err)
	for _, hook := range []ebpf.AttachType{ebpf.AttachTCXEgress, ebpf.AttachTCXIngress} {
		programs, err := labtest.TCXPrograms(s.index, hook)
		s.Check(err)
		if len(programs) > 0 {
			s.Fatalf("left: %d programs on %s", len(programs), hook)
		}
	}
	for _, parent := range []uint32{netlink.HANDLE_MIN_EGRESS, netlink.HANDLE_MIN_INGRESS} {
		filters, err := netlink.FilterList(device, parent)
		s.Check(err)
		if len(filters) > 0 {
			s.Fatalf("left: filters %v", filters)
		}
	}
}

// until repeats a command until the pattern is in a file, which may be stdout or stderr.
func until(s *script, args []string) {
	pattern, err := regexp.Compile("(?m)" + args[0])
	s.Check(err)
	file := args[1]
	s.soon(args[0]+" in "+file, func() bool {
		_ = s.Exec(args[2], args[3:]...) // it may fail until then
		if file == "stdout" || file == "stderr" {
			return pattern.MatchString(s.ReadFile(file))
		}
		content, _ := os.ReadFile(s.MkAbs(file)) // nor need it be there
		return pattern.Match(content)
	})
}

// fails checks that a command ends with this exit code, and with one line on stderr and nothing on stdout.
func fails(s *script, args []string) {
	code := 0
	err := s.Exec(args[1], args[2:]...)
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		code, err = exit.ExitCode(), nil
	}
	s.Check(err)
	if strconv.Itoa(code) != args[0] {
		s.Fatalf("exit code %d", code)
	}
	stderr := s.ReadFile("stderr")
	if !strings.HasPrefix(stderr, "lazybpf: ") || strings.Index(stderr, "\n") != len(stderr)-1 {
		s.Fatalf("not one line of lazybpf's on stderr")
	}
	if s.ReadFile("stdout") != "" {
		s.Fatalf("something on stdout")
	}
}

// checkJSON checks one value of the JSON on stdout. The path has keys, and of peers the public key: peers.KEY.state.
func checkJSON(s *script, args []string) {
	var value any
	s.Check(json.Unmarshal([]byte(s.ReadFile("stdout")), &value))
	for key := range strings.SplitSeq(args[0], ".") {
		value = member(value, key)
	}
	text, ok := value.(string)
	if !ok {
		raw, err := json.Marshal(value)
		s.Check(err)
		text = string(raw)
	}
	pattern, err := regexp.Compile("^(?:" + args[1] + ")$")
	s.Check(err)
	if !pattern.MatchString(text) {
		s.Fatalf("%s is %q, want %q", args[0], text, args[1])
	}
}

// member returns what is missing as nil.
func member(of any, key string) any {
	switch of := of.(type) {
	case map[string]any:
		return of[key]
	case []any:
		for _, element := range of {
			if member(element, "public_key") == key {
				return element
			}
		}
	}
	return nil
}

// sendSignal sends a signal to the one background command that has the word in its command line.
func sendSignal(s *script, args []string) {
	signals := map[string]syscall.Signal{"TERM": unix.SIGTERM, "INT": unix.SIGINT, "KILL": unix.SIGKILL, "HUP": unix.SIGHUP}
	number, ok := signals[args[0]]
	if !ok {
		s.Fatalf("no signal %s here", args[0])
	}
	var found []*exec.Cmd
	for _, cmd := range s.BackgroundCmds() {
		if strings.Contains(strings.Join(cmd.Args, " "), args[1]) {
			found = append(found, cmd)
		}
	}
	if len(found) != 1 {
		s.Fatalf("%d background commands with %s", len(found), args[1])
	}
	s.Check(found[0].Process.Signal(number))
}
