// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Feature is something of machine or kernel that the detector uses.
type Feature struct {
	Name string
	// Err is nil if it is there. Else it is ErrPermission or ErrUnsupported,
	// and says what is missing.
	Err error
	// Instead is what serves where it is missing; empty if nothing does.
	Instead string
}

// Features says what this process has on this machine. It changes nothing.
func Features() []Feature {
	return []Feature{
		{Name: "capabilities", Err: probeCapabilities()},
		{Name: "tun device", Err: probeTUN()},
		{Name: "ring buffer", Err: since("5.8", features.HaveMapType(ebpf.RingBuf))},
		{Name: "coarse clock", Err: since("5.11", features.HaveProgramHelper(ebpf.SchedCLS, asm.FnKtimeGetCoarseNs))},
		{Name: "atomic instructions", Err: since("5.12", probeAtomics())},
		{Name: "tcx", Err: since("6.6", probeTCX()), Instead: "clsact"},
	}
}

// Requirements returns nil if a detector can run, or an error that names
// everything that is missing: ErrPermission, ErrUnsupported. It changes nothing.
func Requirements() error {
	var permission error
	var missing []string
	for _, f := range Features() {
		switch {
		case f.Err == nil || f.Instead != "":
		case errors.Is(f.Err, ErrPermission):
			// Without capabilities the other probes say nothing of the kernel.
			permission = f.Err
		default:
			missing = append(missing, fmt.Sprintf("%s: %s", f.Name, f.Err))
		}
	}
	if permission != nil {
		return permission
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: %s", ErrUnsupported, strings.Join(missing, "; "))
	}
	return nil
}

// since says which Linux has a feature that a probe has found missing.
func since(version string, probe error) error {
	if errors.Is(probe, ebpf.ErrNotSupported) {
		return fmt.Errorf("%w, Linux has it since %s", ErrUnsupported, version)
	}
	return nil // there, or the probe itself could not run: then using it tells
}

// capabilities are what the detector needs, and, since Linux 6.18, all it needs:
// see explain.
var capabilities = []struct {
	bit  uint
	name string
}{
	{unix.CAP_BPF, "CAP_BPF"},
	{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"},
	{unix.CAP_NET_RAW, "CAP_NET_RAW"},
}

// probeCapabilities looks at those of the calling thread.
func probeCapabilities() error {
	var missing []string
	for _, c := range capabilities {
		if !capable(c.bit) {
			missing = append(missing, c.name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: needs %s; run as root", ErrPermission, strings.Join(missing, ", "))
	}
	return nil
}

// capable says whether the calling thread has a capability, as far as it knows.
func capable(bit uint) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	err := unix.Capget(&header, &data[0])
	return err != nil || data[bit/32].Effective&(1<<(bit%32)) != 0
}

func probeTUN() error {
	if _, err := os.Stat(tunPath); err != nil {
		return fmt.Errorf("%w: %w; try modprobe tun", ErrUnsupported, err)
	}
	return nil
}

// probeAtomics loads a program with an atomic fetch-and-and.
func probeAtomics() error {
	fetchAnd := asm.FetchAnd.Mem(asm.RFP, asm.R0, asm.DWord, -8)
	// Package asm, as of v0.22.0, loses the operation on the way to the kernel,
	// and what is left is an addition, which every kernel has.
	fetchAnd.Constant = int64(asm.FetchAnd >> 8)
	program, err := loadProbe(asm.Instructions{
		asm.Mov.Imm(asm.R0, 0),
		asm.StoreMem(asm.RFP, -8, asm.R0, asm.DWord),
		fetchAnd,
		asm.Return(),
	})
	if errors.Is(err, os.ErrPermission) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ebpf.ErrNotSupported, err)
	}
	return program.Close()
}

// probeTCX attaches a program to a device that cannot exist: a kernel with tcx
// looks for the device, one without does not get that far.
func probeTCX() error {
	program, err := loadProbe(asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()})
	if err != nil {
		return err
	}
	defer program.Close()
	hook, err := link.AttachTCX(link.TCXOptions{
		Interface: math.MaxInt32, Program: program, Attach: ebpf.AttachTCXIngress,
	})
	if err == nil {
		return hook.Close()
	}
	return err
}

func loadProbe(instructions asm.Instructions) (*ebpf.Program, error) {
	return ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "Dual BSD/GPL", Instructions: instructions,
	})
}
