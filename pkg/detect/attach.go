// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
)

// Attach says by which hook the programs see a device's packets.
type Attach uint8

// The hooks.
const (
	AttachAuto   Attach = iota // tcx if the kernel has it, else clsact
	AttachTCX                  // Linux 6.6 or later; runs before all tc filters
	AttachClsact               // any kernel; runs among the tc filters
)

// attachment is a pair of programs on a device's hooks. Its String names the hook.
type attachment interface {
	Close() error
	String() string
}

func attach(nl *netlink.Handle, ifindex int, how Attach, s *shared) (attachment, error) {
	if how == AttachClsact {
		return attachClsact(nl, ifindex, s)
	}
	hooks, err := attachTCX(ifindex, s)
	if err == nil {
		return hooks, nil
	}
	if how == AttachAuto && errors.Is(err, ebpf.ErrNotSupported) {
		return attachClsact(nl, ifindex, s)
	}
	if errors.Is(err, ebpf.ErrNotSupported) {
		err = fmt.Errorf("%w: tcx, which Linux has since 6.6", ErrUnsupported)
	}
	return nil, err
}
