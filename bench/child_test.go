// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/lazybpf/lazybpf/internal/daemon"
	"github.com/lazybpf/lazybpf/internal/wg"
	"github.com/lazybpf/lazybpf/pkg/control"
	"github.com/lazybpf/lazybpf/pkg/detect"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// A daemon is measured in a process of its own, which is this program started
// once more in the same lab with an order. What WireGuard does in userspace is
// then not counted as the daemon's.

// order is what a child is to do.
type order struct {
	Interface string
	Wake      lazy.WakeMode
	// Dormant is how many peers that are made up a manager has; 0: it is a daemon,
	// which has the device's.
	Dormant int
	// Keepalive is what the manager's connector sets; 0: it does nothing.
	Keepalive time.Duration
}

const childVar = "LAZYBPF_BENCH_CHILD"

// started is what a child says first.
type started struct {
	Read, ReadCPU   time.Duration // reading the device once
	Start, StartCPU time.Duration // starting, which reads the device, too
}

// runChild does what is ordered, and returns the exit code.
func runChild(encoded string) int {
	var o order
	err := json.Unmarshal([]byte(encoded), &o)
	if err == nil && o.Dormant > 0 {
		err = manage(o)
	} else if err == nil {
		err = serve(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// serve runs the daemon until standard input ends, and answers each line there
// with what memory it has.
func serve(o order) error {
	device, err := wg.Open(o.Interface)
	if err != nil {
		return err
	}
	var s started
	begin, cpu := time.Now(), cpuNow()
	if _, err := device.Peers(); err != nil {
		return err
	}
	s.Read, s.ReadCPU = time.Since(begin), cpuNow()-cpu
	if err := device.Close(); err != nil {
		return err
	}
	before := memoryNow()

	log := logrus.New()
	log.SetOutput(io.Discard)
	begin, cpu = time.Now(), cpuNow()
	d, err := daemon.New(context.Background(), daemon.Options{
		Interface: o.Interface, Wake: o.Wake, Control: control.Path(o.Interface), Log: log,
	})
	if err != nil {
		return err
	}
	s.Start, s.StartCPU = time.Since(begin), cpuNow()-cpu
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(s); err != nil {
		return err
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if err := out.Encode(memoryNow().since(before)); err != nil {
			return err
		}
	}
	cancel()
	return <-ended
}

// manage has dormant peers until standard input ends. It says of each that wakes how
// long after its packet the manager knew, or, if it is to connect them, how long
// after it the peer was connected.
func manage(o order) error {
	d, err := detect.New(detect.Options{Interface: o.Interface})
	if err != nil {
		return err
	}
	defer d.Close()
	options := lazy.Options{Detector: d, Connector: nothing{}, Wake: o.Wake}
	if o.Keepalive > 0 {
		device, err := wg.Open(o.Interface)
		if err != nil {
			return err
		}
		defer device.Close()
		connector := wg.NewConnector(device, nil)
		for peer := range o.Dormant {
			connector.Adopt(wg.Peer{Key: keyOf(peer)}, o.Keepalive, true)
		}
		options.Connector = connector
	}
	m, err := lazy.New(options)
	if err != nil {
		return err
	}
	defer m.Close()
	for peer := range o.Dormant {
		if _, err := m.AddPeer(peerOf(peer)); err != nil {
			return err
		}
	}
	changes, err := m.Subscribe()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(started{}); err != nil {
		return err
	}
	awaited := lazy.Connecting
	if o.Keepalive > 0 {
		awaited = lazy.Connected
	}
	for {
		change, err := changes.Next(ctx)
		if err != nil {
			return nil
		}
		if change.To != awaited {
			continue
		}
		if err := out.Encode(change.Time.Sub(change.Wake.Time)); err != nil {
			return err
		}
	}
}

// child is this program at work on an order.
type child struct {
	b       testing.TB
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *json.Decoder
	started started
}

func startChild(b testing.TB, o order) *child {
	b.Helper()
	encoded, err := json.Marshal(o)
	if err != nil {
		b.Fatal(err)
	}
	c := &child{b: b, cmd: exec.Command("/proc/self/exe")}
	c.cmd.Env = append(os.Environ(), childVar+"="+string(encoded))
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		b.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.cmd.Process.Kill() }) // it may have ended
	c.out = json.NewDecoder(out)
	c.hear(&c.started)
	return c
}

// hear takes the next thing that the child says.
func (c *child) hear(what any) {
	c.b.Helper()
	if err := c.out.Decode(what); err != nil {
		c.b.Fatal("child:", err)
	}
}

// memory is what the child has.
func (c *child) memory() (m memory) {
	c.b.Helper()
	if _, err := fmt.Fprintln(c.in, "memory"); err != nil {
		c.b.Fatal(err)
	}
	c.hear(&m)
	return m
}

// stop ends the child, which cleans up.
func (c *child) stop() {
	c.b.Helper()
	c.in.Close()
	if err := c.cmd.Wait(); err != nil {
		c.b.Error("child:", err)
	}
}

// cpu is how long the child has run so far, all its threads together.
func (c *child) cpu() (total time.Duration) {
	c.b.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", c.cmd.Process.Pid))
	if err != nil {
		c.b.Fatal(err)
	}
	for _, task := range tasks {
		total += time.Duration(field(task, ""))
	}
	return total
}

// inPlace is how much memory of the child's is in place, or was at most: VmRSS or
// VmHWM of proc(5).
func (c *child) inPlace(which string) int64 {
	return 1024 * field(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid), which)
}
