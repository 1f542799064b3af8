// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// tcx is a pair of tcx links. The kernel removes them with the process.
type tcx struct{ egress, ingress link.Link }

// attachTCX puts the programs first on their hooks: then the others see a held
// packet once, when it is replayed. Error: ebpf.ErrNotSupported.
func attachTCX(ifindex int, s *shared) (attachment, error) {
	egress, err := link.AttachTCX(link.TCXOptions{
		Interface: ifindex, Program: s.Egress, Attach: ebpf.AttachTCXEgress, Anchor: link.Head(),
	})
	if err != nil {
		return nil, fmt.Errorf("attach to egress: %w", err)
	}
	ingress, err := link.AttachTCX(link.TCXOptions{
		Interface: ifindex, Program: s.Ingress, Attach: ebpf.AttachTCXIngress, Anchor: link.Head(),
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("attach to ingress: %w", err), egress.Close())
	}
	return tcx{egress, ingress}, nil
}

func (tcx) String() string { return "tcx" }

func (t tcx) Close() error { return errors.Join(t.egress.Close(), t.ingress.Close()) }
