// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// The errors of this package. Functions say which of them they return; test
// with errors.Is, for they come wrapped with what was tried. Other errors are the
// kernel's.
var (
	// ErrNoDevice: the network device does not exist.
	ErrNoDevice = errors.New("no such device")
	// ErrLinkLayer: the device has a link layer header, so it is not WireGuard's.
	ErrLinkLayer = errors.New("not a layer 3 device")
	// ErrBusy: another detector is attached to the device.
	ErrBusy = errors.New("another detector is attached")
	// ErrUnsupported: the kernel lacks something that the detector needs.
	ErrUnsupported = errors.New("not supported by this kernel")
	// ErrPermission: the process lacks a capability.
	ErrPermission = errors.New("missing capability")
	// ErrUnknownPeer: the ID was never given out, or its peer was removed.
	ErrUnknownPeer = errors.New("unknown peer")
	// ErrPrefix: a prefix is not valid, or of IPv4-mapped addresses (RFC 4291,
	// 2.5.5.2): say it in IPv4.
	ErrPrefix = errors.New("invalid prefix")
	// ErrRule: a rule is not valid, or there are too many.
	ErrRule = errors.New("invalid rule")
	// ErrClosed: the detector is closed.
	ErrClosed = errors.New("detector is closed")
)

// explain returns what is missing if that may be why err happened, else err.
func explain(err error) error {
	if err == nil {
		return nil
	}
	if cause := Requirements(); cause != nil {
		return cause
	}
	return refused(err)
}

// initialUserNamespace is the number of the first one (PROC_USER_INIT_INO of
// include/linux/proc_ns.h).
const initialUserNamespace = 0xEFFFFFFD

// refused says why the kernel may not have let a process have its will that has
// capabilities.
func refused(err error) error {
	// The verifier follows the programs of a process without CAP_PERFMON under
	// speculation as well. Before Linux 6.18 it does not get to the end of loops,
	// and says so by one of these two.
	if !capable(unix.CAP_PERFMON) && (errors.Is(err, unix.EFAULT) || errors.Is(err, unix.EACCES)) {
		return fmt.Errorf("%w: needs CAP_PERFMON, too, on this kernel; run as root", ErrPermission)
	}
	if !errors.Is(err, unix.EPERM) { // EACCES is the verifier's no
		return err
	}
	var ns unix.Stat_t
	if unix.Stat("/proc/self/ns/user", &ns) == nil && ns.Ino != initialUserNamespace {
		return fmt.Errorf("%w: those of a user namespace, as of an unprivileged container, do not count; run as root of the host", ErrPermission)
	}
	return fmt.Errorf("%w: %w, although the capabilities are there; does a seccomp filter, as of a container, forbid it?", ErrPermission, err)
}
