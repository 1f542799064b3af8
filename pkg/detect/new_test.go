// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lazybpf/lazybpf/internal/lab/labtest"
)

func TestOptionsValidate(t *testing.T) {
	for name, test := range map[string]struct {
		options Options
		message string // empty: they are valid
	}{
		"least":            {Options{Interface: "w"}, ""},
		"most":             {Options{Interface: "wireguard-to-me", Attach: AttachClsact, Peers: 1 << 20, CountMulticast: true}, ""},
		"no name":          {Options{}, `option Interface: "" is no device name of 1 to 15 bytes`},
		"long name":        {Options{Interface: "wireguard-to-you"}, `option Interface: "wireguard-to-you" is no device name of 1 to 15 bytes`},
		"no hook":          {Options{Interface: "wg0", Attach: 3}, "option Attach: 3 is none of AttachAuto, AttachTCX, AttachClsact"},
		"too few peers":    {Options{Interface: "wg0", Peers: -1}, "option Peers: -1 is not within 0 to 1048576"},
		"too many peers":   {Options{Interface: "wg0", Peers: 1<<20 + 1}, "option Peers: 1048577 is not within 0 to 1048576"},
		"negative packets": {Options{Interface: "wg0", Hold: Hold{Packets: -1}}, "option Hold: limits must not be negative"},
		"negative bytes":   {Options{Interface: "wg0", Hold: Hold{Bytes: -1}}, "option Hold: limits must not be negative"},
		"no effect":        {Options{Interface: "wg0", Rules: []Rule{{Effect: 4}}}, "option Rules: invalid rule 1: field Effect: 4 is not within 0 to 3"},
		"negative time":    {Options{Interface: "wg0", Hold: Hold{Timeout: -1}}, "option Hold: limits must not be negative"},
	} {
		t.Run(name, func(t *testing.T) {
			message := ""
			if err := test.options.Validate(); err != nil {
				message = err.Error()
			}
			if message != test.message {
				t.Errorf("got  %q\nwant %q", message, test.message)
			}
			if test.message == "" {
				return
			}
			if _, err := New(test.options); err == nil || err.Error() != test.message {
				t.Errorf("New: %v", err)
			}
		})
	}
}

// TestNewAuto has New choose the hook.
func TestNewAuto(t *testing.T) {
	t.Parallel()
	want := "clsact"
	if hasTCX(t) {
		want = "tcx"
	}
	if got := newRig(t, Options{}).Attached(); got != want {
		t.Errorf("attached by %s, want %s", got, want)
	}
}

func TestNewNoDevice(t *testing.T) {
	for name, test := range map[string]struct {
		device string
		want   error
	}{
		"missing":  {"nosuchdevice", ErrNoDevice},
		"ethernet": {newEthernet(t), ErrLinkLayer},
		"loopback": {"lo", ErrLinkLayer},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := New(Options{Interface: test.device}); !errors.Is(err, test.want) {
				t.Errorf("New: %v, want %v", err, test.want)
			}
			if err := CheckDevice(test.device); !errors.Is(err, test.want) {
				t.Errorf("CheckDevice: %v, want %v", err, test.want)
			}
			link, err := netlink.LinkByName(test.device)
			if err != nil {
				return
			}
			dev := &device{t: t, name: test.device, index: link.Attrs().Index}
			dev.expectAttached()
		})
	}
}

// newEthernet makes a veth, which has a link layer.
func newEthernet(t *testing.T) string {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "ethernet"
	link := &netlink.Veth{LinkAttrs: attrs, PeerName: "othernet"}
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netlink.LinkDel(link); err != nil {
			t.Error(err)
		}
	})
	return attrs.Name
}

// TestNewCapabilities runs New with few capabilities: those that it needs, and
// one less.
func TestNewCapabilities(t *testing.T) {
	newRig(t, Options{}) // package ebpf remembers what a kernel lacks, even if it was a capability
	all := []uint{unix.CAP_BPF, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW}
	for missing, name := range map[uint]string{unix.CAP_BPF: "CAP_BPF", unix.CAP_NET_ADMIN: "CAP_NET_ADMIN", unix.CAP_NET_RAW: "CAP_NET_RAW"} {
		t.Run("without "+name, func(t *testing.T) {
			dev := newDevice(t)
			for _, hook := range []Attach{AttachAuto, AttachClsact} {
				withCapabilities(t, without(all, missing), func() {
					_, err := New(Options{Interface: dev.name, Attach: hook})
					if !errors.Is(err, ErrPermission) || !strings.Contains(err.Error(), "needs "+name) {
						t.Errorf("New: %v, want that it needs %s", err, name)
					}
					if err := Requirements(); !errors.Is(err, ErrPermission) {
						t.Errorf("Requirements: %v", err)
					}
				})
				dev.expectAttached()
			}
		})
	}
	t.Run("with none", func(t *testing.T) {
		withCapabilities(t, nil, func() {
			if err := Requirements(); !errors.Is(err, ErrPermission) || !strings.Contains(err.Error(), "CAP_BPF, CAP_NET_ADMIN, CAP_NET_RAW") {
				t.Errorf("Requirements: %v", err)
			}
		})
	})
	onEachHook(t, func(t *testing.T, hook Attach) {
		t.Run("all", func(t *testing.T) { holdWithCapabilities(t, hook, all) })
		t.Run("all for older kernels", func(t *testing.T) {
			holdWithCapabilities(t, hook, append(all, unix.CAP_PERFMON))
		})
		t.Run("CAP_SYS_ADMIN for CAP_BPF", func(t *testing.T) {
			holdWithCapabilities(t, hook, append(without(all, unix.CAP_BPF), unix.CAP_SYS_ADMIN))
		})
	})
}

// holdWithCapabilities holds and sends a packet.
func holdWithCapabilities(t *testing.T, hook Attach, capabilities []uint) {
	dev := newDevice(t)
	withCapabilities(t, capabilities, func() {
		d, err := New(Options{Interface: dev.name, Attach: hook})
		needsPerfmon := errors.Is(err, ErrPermission) && strings.Contains(err.Error(), "needs CAP_PERFMON")
		if needsPerfmon && labtest.RunningLinux(t).Before(labtest.Linux{Major: 6, Minor: 18}) &&
			!slices.Contains(capabilities, unix.CAP_PERFMON) {
			t.Skip("doing without CAP_PERFMON needs Linux 6.18 or later")
		}
		if err != nil {
			t.Fatal(err)
		}
		w := &tunnel{t: t, dev: dev, d: detector{d, t}}
		p := w.newHeld()
		w.send(p.v4, "held and sent")
		w.d.mustOpen(p.id)
		dev.expect("held and sent")
		if err := errors.Join(Requirements(), d.Close()); err != nil {
			t.Error(err)
		}
	})
}

func without(capabilities []uint, one uint) []uint {
	return slices.DeleteFunc(slices.Clone(capabilities), func(c uint) bool { return c == one })
}

// withCapabilities runs do on a thread that has these effective capabilities
// alone. Those that it starts have all.
func withCapabilities(t *testing.T, capabilities []uint, do func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var full [2]unix.CapUserData
	if err := unix.Capget(&header, &full[0]); err != nil {
		t.Fatal(err)
	}
	few := full
	few[0].Effective, few[1].Effective = 0, 0
	for _, c := range capabilities {
		few[c/32].Effective |= 1 << (c % 32)
	}
	if err := unix.Capset(&header, &few[0]); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Capset(&header, &full[0]); err != nil {
			t.Fatal(err)
		}
	}()
	do()
}

// TestNewUndoes has attaching fail half-way: by a program that is none for tc.
func TestNewUndoes(t *testing.T) {
	dev := newDevice(t)
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer nl.Close()
	right := newProgram(t)
	wrong, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SocketFilter, Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer wrong.Close()
	onEachHook(t, func(t *testing.T, hook Attach) {
		for name, s := range map[string]*shared{
			"egress": {Egress: wrong, Ingress: right}, "ingress": {Egress: right, Ingress: wrong},
		} {
			if _, err := attach(nl, dev.index, hook, s); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %v", name, err)
			}
			dev.expectAttached()
		}
	})
}

// TestNewIngressQdisc finds a qdisc in the place of clsact that has one hook
// only: what is meant for egress would see ingress.
func TestNewIngressQdisc(t *testing.T) {
	dev := newDevice(t)
	err := netlink.QdiscAdd(&netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: dev.index, Parent: netlink.HANDLE_INGRESS, Handle: netlink.MakeHandle(0xffff, 0),
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{Interface: dev.name, Attach: AttachClsact}); err == nil || !strings.Contains(err.Error(), "type ingress") {
		t.Errorf("New: %v", err)
	}
	dev.expectAttached("qdisc ingress")
}
