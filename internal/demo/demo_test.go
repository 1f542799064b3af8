// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"go.uber.org/goleak"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/pkg/control"
)

func TestMain(m *testing.M) { lab.Main(m) }

func TestDemo(t *testing.T) {
	defer checkNothingLeft(t)
	var out strings.Builder
	err := Run(t.Context(), &out, false)
	t.Logf("\n%s", out.String())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "\n14 first packets: 0 lost, 0 doubled, 0 sent again by TCP\n") {
		t.Error("it did not say that all is well")
	}
	if lines, columns := strings.Count(out.String(), "\n"), columns(out.String()); lines > 48 || columns > 80 {
		t.Errorf("%d lines of %d columns are too much for a screen", lines, columns)
	}
}

// TestInterrupted ends the demo at different points of the story.
func TestInterrupted(t *testing.T) {
	for _, at := range []string{"plain WireGuard", "pass", "icmpv6"} {
		t.Run(at, func(t *testing.T) {
			defer checkNothingLeft(t)
			ctx, cancel := context.WithCancel(t.Context())
			var interrupted time.Time
			err := Run(ctx, when(at, func() { interrupted = time.Now(); cancel() }), false)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("error %v, want %v", err, context.Canceled)
			}
			if took := time.Since(interrupted); took > 5*time.Second {
				t.Errorf("it went on for %s", took)
			}
		})
	}
}

// TestFailures has something go wrong in the middle of the story.
func TestFailures(t *testing.T) {
	for name, test := range map[string]struct {
		at   string
		do   func(*testing.T, *lab.Network) error
		want string
	}{
		"there is gone": {
			"peer asleep", func(_ *testing.T, n *lab.Network) error {
				return n.There.Configure(wgtypes.Config{ListenPort: new(1)})
			}, "pass: ping over IPv4: no answer within 4s: the first packet is lost",
		},
		"the daemon sees nothing": {
			"peer asleep", func(t *testing.T, n *lab.Network) error {
				return blind(t, n.Here.Name)
			}, "pass: ping over IPv4: the peer is not connecting, 4s later",
		},
		"somebody else wakes the peer": {
			"peer asleep", func(t *testing.T, n *lab.Network) error {
				_, err := control.NewClient(control.Path(n.Here.Name)).Wake(t.Context(), []string{n.There.IPv4.String()})
				return err
			}, "pass: ping over IPv4: the peer is connecting by request, expected egress icmp",
		},
		"the peer may not sleep": {
			"daemon runs", func(t *testing.T, n *lab.Network) error {
				_, err := control.NewClient(control.Path(n.Here.Name)).Exclude(t.Context(), []string{n.There.IPv4.String()})
				return err
			}, "pass: the peer is not idle, 5s later",
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer checkNothingLeft(t)
			network, err := lab.New(lab.Options{})
			check(t, err)
			defer network.Close()

			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			var out bytes.Buffer
			trouble := when(test.at, func() {
				if err := test.do(t, network); err != nil {
					cancel(err)
				}
			})
			err = show(ctx, network, newReporter(io.MultiWriter(&out, trouble), false))
			if cause := context.Cause(ctx); errors.Is(cause, ebpf.ErrNotSupported) {
				t.Skip("it takes tcx, so Linux 6.6 or later:", cause)
			} else {
				check(t, cause)
			}
			if err == nil || !strings.HasPrefix(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v\nwant  %s", err, test.want)
			}
			if !strings.Contains(out.String(), "what the daemon has logged\n") {
				t.Errorf("the daemon's log is missing:\n%s", out.String())
			}
		})
	}
}

func TestVerdict(t *testing.T) {
	for want, counts := range map[string]tally{
		"": {sent: 2, answered: 2},
		"2 first packets: 1 lost, 0 doubled, 0 sent again by TCP": {sent: 2, answered: 1},
		"2 first packets: 0 lost, 1 doubled, 0 sent again by TCP": {sent: 2, answered: 2, doubled: 1},
		"2 first packets: 0 lost, 0 doubled, 1 sent again by TCP": {sent: 2, answered: 2, sentAgain: 1},
	} {
		d := demo{
			reporter: newReporter(io.Discard, false),
			baseline: []time.Duration{0}, wakes: []wake{{}, {}}, counts: counts,
		}
		got := ""
		if err := d.conclude(t.Context()); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%+v: error %q, want %q", counts, got, want)
		}
	}
}

// when calls do as soon as a line with this text is written.
func when(text string, do func()) io.Writer {
	done := false
	return writerFunc(func(line []byte) (int, error) {
		if !done && bytes.Contains(line, []byte(text)) {
			done = true
			do()
		}
		return len(line), nil
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// blind puts a program before all others on the device that passes packets without asking them.
func blind(t *testing.T, device string) error {
	pass, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:         ebpf.SchedCLS,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}, // TCX_PASS
	})
	if err != nil {
		return err
	}
	defer pass.Close()
	at, err := net.InterfaceByName(device)
	if err != nil {
		return err
	}
	for _, hook := range []ebpf.AttachType{ebpf.AttachTCXEgress, ebpf.AttachTCXIngress} {
		l, err := link.AttachTCX(link.TCXOptions{Interface: at.Index, Program: pass, Attach: hook, Anchor: link.Head()})
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
	}
	return nil
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// checkNothingLeft looks at what a demo could leave behind in this lab.
func checkNothingLeft(t *testing.T) {
	t.Helper()
	devices, err := net.Interfaces()
	check(t, err)
	for _, device := range devices {
		if device.Name != "lo" {
			t.Errorf("device %s is left", device.Name)
		}
	}
	for _, dir := range []string{control.Dir, "/var/run/wireguard", "/sys/fs/bpf/lazybpf"} {
		files, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
		for _, file := range files {
			t.Errorf("%s/%s is left", dir, file.Name())
		}
	}
	goleak.VerifyNone(t)
}
