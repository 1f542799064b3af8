// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"errors"
	"net/netip"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// tunnel is a device that is up and has a detector on it.
type tunnel struct {
	t     testing.TB
	dev   *device
	d     detector
	peers int // added so far
}

// peer is a peer of the tunnel, with a UDP port in either family.
type peer struct {
	id     ID
	v4, v6 netip.AddrPort
}

func newTunnel(t testing.TB, options Options) *tunnel {
	t.Helper()
	dev := newDevice(t)
	options.Interface = dev.name
	return &tunnel{t: t, dev: dev, d: newDetector(t, options)}
}

// in makes failures those of a subtest.
func (w *tunnel) in(t *testing.T) {
	outer := w.t
	set := func(t testing.TB) { w.t, w.dev.t, w.d.t = t, t, t }
	set(t)
	t.Cleanup(func() { set(outer) })
}

// newPeer adds a peer, with an address in either family.
func (w *tunnel) newPeer() peer {
	w.t.Helper()
	w.peers++
	p := peer{v4: peer4(1 + w.peers), v6: peer6(1 + w.peers)}
	p.id = w.d.mustAdd(single(p.v4), single(p.v6))
	return p
}

// newHeld adds a peer that is armed to hold.
func (w *tunnel) newHeld() peer {
	w.t.Helper()
	p := w.newPeer()
	w.d.mustArm(p.id, true)
	return p
}

// send sends datagrams from the host to an address of a peer.
func (w *tunnel) send(to netip.AddrPort, payloads ...string) {
	w.t.Helper()
	for _, payload := range payloads {
		w.dev.send(to, payload)
	}
}

// park waits until all packets that were held are in their queues.
func (w *tunnel) park() {
	w.t.Helper()
	if err := w.d.parking.do(func(p *parking) { p.drain() }); err != nil {
		w.t.Fatal(err)
	}
}

// onEachHook runs a test with each of the ways of attaching.
func onEachHook(t *testing.T, test func(t *testing.T, hook Attach)) {
	t.Run("tcx", func(t *testing.T) {
		needTCX(t)
		test(t, AttachTCX)
	})
	t.Run("clsact", func(t *testing.T) { test(t, AttachClsact) })
}

func needTCX(t testing.TB) {
	t.Helper()
	if !hasTCX(t) {
		t.Skip("tcx needs Linux 6.6 or later")
	}
}

// hasTCX asks the kernel, whatever the code under test thinks of it.
func hasTCX(t testing.TB) bool {
	t.Helper()
	has, err := attachesTCX()
	if err != nil {
		t.Fatal(err)
	}
	return has
}

// attachesTCX tries, once.
var attachesTCX = sync.OnceValues(func() (bool, error) {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, pass), asm.Return()},
	})
	if err != nil {
		return false, err
	}
	defer program.Close()
	const lo = 1
	hook, err := link.AttachTCX(link.TCXOptions{Interface: lo, Program: program, Attach: ebpf.AttachTCXIngress})
	if errors.Is(err, ebpf.ErrNotSupported) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, hook.Close()
})

// newProgram loads a tc program named "neighbour". It does this, then passes
// the packet on to the next one, for which it may also jump to "pass".
func newProgram(t testing.TB, instructions ...asm.Instruction) *ebpf.Program {
	t.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "neighbour", Type: ebpf.SchedCLS,
		Instructions: append(instructions, asm.Mov.Imm(asm.R0, pass).WithSymbol("pass"), asm.Return()),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return program
}
