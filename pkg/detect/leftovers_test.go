// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// watchCommand makes the test binary a process with a detector, for a device
// and a hook, until its standard input ends.
const watchCommand = "watch"

const watching = "watching"

// watch holds what goes to the first peer of a device. It says whether it can,
// and ends without closing anything.
func watch(device, hook string) (code int) {
	err := func() error {
		attach, err := strconv.Atoi(hook)
		if err != nil {
			return err
		}
		d, err := New(Options{Interface: device, Attach: Attach(attach)})
		if err != nil {
			return err
		}
		if err := d.Pin(childPins); err != nil {
			return err
		}
		id, err := d.Add([]netip.Prefix{single(peer4(2))})
		if err != nil {
			return err
		}
		return d.Arm(id, true)
	}()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(watching)
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

const childPins = "/sys/fs/bpf/child"

// child is a process with a detector.
type child struct {
	t       testing.TB
	command *exec.Cmd
	stdin   io.Closer
}

// startChild returns when the child watches the device.
func startChild(t testing.TB, dev *device, hook Attach) child {
	t.Helper()
	c := child{t: t, command: exec.Command("/proc/self/exe", watchCommand, dev.name, strconv.Itoa(int(hook)))}
	c.command.Stderr = os.Stderr
	stdout, err := c.command.StdoutPipe()
	if err == nil {
		c.stdin, err = c.command.StdinPipe()
	}
	if err := errors.Join(err, c.command.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if strings.TrimSpace(line) != watching {
		t.Fatalf("the child says %q, %v", line, err)
	}
	return c
}

// kill ends the child by SIGKILL, and returns when it is gone.
func (c child) kill() {
	c.t.Helper()
	if c.command.ProcessState != nil {
		return
	}
	if err := c.command.Process.Kill(); err != nil {
		c.t.Fatal(err)
	}
	_ = c.command.Wait() // it says how the child has ended
}

// TestLeftovers kills a process that holds packets. Whatever it leaves behind
// passes everything, and can be cleared away.
func TestLeftovers(t *testing.T) {
	filters := []string{"filter egress lazybpf_egress", "filter ingress lazybpf_ingress", "qdisc clsact"}
	replace := func(hook Attach) func(*testing.T, *device) {
		return func(t *testing.T, dev *device) {
			w := &tunnel{t: t, dev: dev, d: newDetector(t, Options{Interface: dev.name, Attach: hook})}
			p := w.newHeld()
			w.send(p.v4, "held by the new one")
			w.d.mustOpen(p.id)
			dev.expect("held by the new one")
			if hook == AttachClsact {
				dev.expectAttached(append(filters, "parking device")...)
			}
			if err := errors.Join(w.d.Close(), RemoveLeftovers("", childPins)); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(t *testing.T, dev *device) {
		if err := RemoveLeftovers(dev.name, childPins); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		hook      Attach
		hasQdisc  bool
		leftovers []string
		clear     func(*testing.T, *device)
	}{
		"tcx":                      {AttachTCX, false, nil, remove},
		"clsact":                   {AttachClsact, false, filters, remove},
		"clsact, not our qdisc":    {AttachClsact, true, filters, remove},
		"replaced":                 {AttachClsact, false, filters, replace(AttachClsact)},
		"replaced, not our qdisc":  {AttachClsact, true, filters, replace(AttachClsact)},
		"replaced by another hook": {AttachClsact, false, filters, replace(AttachAuto)},
	} {
		t.Run(name, func(t *testing.T) {
			if test.hook == AttachTCX {
				needTCX(t)
			}
			dev := newDevice(t)
			var alone []string
			if test.hasQdisc {
				dev.addClsact()
				alone = []string{"qdisc clsact"}
			}
			c := startChild(t, dev, test.hook)
			dev.send(peer4(2), "held by the child")
			dev.nothing()
			c.kill()

			dev.awaitPassing()
			dev.expectAttached(test.leftovers...)
			dev.send(peer4(2), "one")
			dev.send(peer4(2), "two")
			dev.expect("one", "two")

			test.clear(t, dev)
			dev.expectAttached(alone...)
			if _, err := os.Stat(childPins); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("pins are left: %v", err)
			}
			dev.send(peer4(2), "three")
			dev.expect("three")
		})
	}
}

// awaitPassing sends packets until one comes out: the kernel takes some time to
// end what has belonged to a process.
func (d *device) awaitPassing() {
	d.t.Helper()
	buffer := make([]byte, 1<<16)
	for start := time.Now(); time.Since(start) < patience; {
		d.send(peer4(2), "passes")
		if err := d.tun.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
			d.t.Fatal(err)
		}
		if n, err := d.tun.Read(buffer); err == nil && data(buffer[:n]) == "passes" {
			d.send(peer4(2), "the last")
			for data(d.next()) != "the last" { // others that took their time
			}
			return
		}
	}
	d.t.Fatal("nothing passes")
}

// TestRemoveLeftoversNothing finds nothing to remove.
func TestRemoveLeftoversNothing(t *testing.T) {
	dev := newDevice(t)
	dev.addClsact()
	dev.addFilter(parents[0], "neighbour", newProgram(t))
	dev.addFilter(parents[1], bpfProgLazybpfIngress, newProgram(t)) // anybody may choose the name
	before := dev.attached()
	for _, name := range []string{dev.name, "nosuchdevice"} {
		if err := RemoveLeftovers(name, "/sys/fs/bpf/nosuchfolder"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	dev.expectAttached(before...)
}

// TestBusy has two detectors for one device.
func TestBusy(t *testing.T) {
	onEachHook(t, func(t *testing.T, hook Attach) {
		expectBusy := func(dev *device) {
			t.Helper()
			before := dev.attached()
			for _, second := range []Attach{AttachAuto, AttachClsact} {
				if _, err := New(Options{Interface: dev.name, Attach: second}); !errors.Is(err, ErrBusy) {
					t.Errorf("New: %v", err)
				}
			}
			if err := CheckDevice(dev.name); !errors.Is(err, ErrBusy) {
				t.Errorf("CheckDevice: %v", err)
			}
			if err := RemoveLeftovers(dev.name, ""); !errors.Is(err, ErrBusy) {
				t.Errorf("RemoveLeftovers: %v", err)
			}
			dev.expectAttached(before...)
		}

		w := newTunnel(t, Options{Attach: hook})
		expectBusy(w.dev)
		p := w.newHeld()
		w.send(p.v4, "the first one works")
		w.d.mustOpen(p.id)
		w.dev.expect("the first one works")
		if err := w.d.Close(); err != nil {
			t.Fatal(err)
		}

		c := startChild(t, w.dev, hook)
		expectBusy(w.dev)
		c.kill()
		if err := errors.Join(CheckDevice(w.dev.name), newDetector(t, Options{Interface: w.dev.name}).Close()); err != nil {
			t.Error("after its end:", err)
		}
		if err := RemoveLeftovers("", childPins); err != nil {
			t.Fatal(err)
		}
	})
}
