// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
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
	// Err is nil if it is there. Else it says what is missing, as ErrPermission
	// or ErrUnsupported, or why that could not be found out.
	Err error
	// Instead is what serves where it is missing; empty if nothing does.
	Instead string
}

// Features says what this process has on this machine. It changes nothing.
func Features() []Feature {
	found := []Feature{
		{Name: "capabilities", Err: probeCapabilities()},
		{Name: "tun device", Err: probeTUN(tunPath)},
		{Name: "ring buffer", Err: since("5.8", features.HaveMapType(ebpf.RingBuf))},
		{Name: "coarse clock", Err: since("5.11", features.HaveProgramHelper(ebpf.SchedCLS, asm.FnKtimeGetCoarseNs))},
		{Name: "atomic instructions", Err: since("5.12", probeAtomics())},
	}
	programs := errLacking
	if !slices.ContainsFunc(found, func(f Feature) bool { return errors.Is(f.Err, ErrUnsupported) }) {
		programs = probePrograms()
	}
	return append(found,
		Feature{Name: "programs", Err: programs},
		Feature{Name: "tcx", Err: since("6.6", probeTCX()), Instead: "clsact"})
}

// Requirements returns nil if a detector can run, or an error that names
// everything that is missing: ErrPermission, ErrUnsupported. It changes nothing.
func Requirements() error {
	var missing []string
	for _, f := range Features() {
		switch {
		case errors.Is(f.Err, errNotAsked):
		case errors.Is(f.Err, ErrPermission):
			// Without capabilities the other probes say nothing of the kernel.
			return f.Err
		case errors.Is(f.Err, ErrUnsupported) && f.Instead == "":
			reason := strings.TrimPrefix(f.Err.Error(), ErrUnsupported.Error())
			missing = append(missing, f.Name+": "+strings.TrimLeft(reason, ",: "))
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: %s", ErrUnsupported, strings.Join(missing, "; "))
	}
	return nil
}

// since says which Linux has a feature that a probe has found missing.
func since(version string, probe error) error {
	switch {
	case errors.Is(probe, ebpf.ErrNotSupported):
		return fmt.Errorf("%w, Linux has it since %s", ErrUnsupported, version)
	case errors.Is(probe, unix.EPERM):
		return errNotAsked
	}
	return nil // there, or the probe itself could not run: then using it tells
}

var (
	// errNotAsked is of a probe that the kernel did not let run: what it lets this
	// process do is the concern of another.
	errNotAsked = fmt.Errorf("not known: %w", ErrPermission)
	// errLacking is of the programs where it need not be tried.
	errLacking = errors.New("not known: they need what is missing")
)

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
	// The kernel may not let a container do what it has the capability for.
	program, err := loadProbe(asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()})
	if err != nil {
		return refused(err)
	}
	return program.Close()
}

// capable says whether the calling thread has a capability, as far as it knows.
// CAP_SYS_ADMIN includes those that were split off from it.
func capable(bit uint) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return true
	}
	has := func(bit uint) bool { return data[bit/32].Effective&(1<<(bit%32)) != 0 }
	return has(bit) || (bit == unix.CAP_BPF || bit == unix.CAP_PERFMON) && has(unix.CAP_SYS_ADMIN)
}

// probeTUN opens the device, which makes no interface. A node in /dev may stand
// for a module that is not there.
func probeTUN(path string) error {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w: open %s: %w; a container must be given the device", ErrPermission, path, err)
	case err != nil:
		return fmt.Errorf("%w: open %s: %w; try modprobe tun", ErrUnsupported, path, err)
	}
	_, err = unix.IoctlGetUint32(fd, unix.TUNGETFEATURES)
	if err != nil {
		err = fmt.Errorf("%w: %s is another file; try mknod %s c 10 200", ErrUnsupported, path, path)
	}
	return errors.Join(err, unix.Close(fd))
}

// probePrograms loads all that New would, attached to nothing.
func probePrograms() error {
	spec, err := newSpec(&parking{replay: new(replayer)}, false)
	if err != nil {
		return err
	}
	shared, err := newShared(spec)
	if errors.Is(err, unix.EPERM) {
		return errNotAsked
	}
	if err != nil {
		return refused(err)
	}
	tables, err := newTables(spec, capacity{minCapacity, minCapacity}, shared.replacements())
	if err != nil {
		return errors.Join(refused(err), shared.close())
	}
	return errors.Join(tables.close(), shared.close())
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
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%w: %w", ebpf.ErrNotSupported, err)
	}
	if err != nil {
		return err
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
