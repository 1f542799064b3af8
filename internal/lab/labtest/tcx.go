// SPDX-License-Identifier: Apache-2.0

package labtest

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// TCXPrograms are the programs on a tcx hook of a device; none where the kernel has no tcx.
func TCXPrograms(ifindex int, hook ebpf.AttachType) ([]ebpf.ProgramID, error) {
	attached, err := link.QueryPrograms(link.QueryOptions{Target: ifindex, Attach: hook})
	// Linux 6.1 answers EINVAL, since it can ask other hooks who is there.
	if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EINVAL) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s hook of device %d: %w", hook, ifindex, err)
	}
	ids := make([]ebpf.ProgramID, len(attached.Programs))
	for i, program := range attached.Programs {
		ids[i] = program.ID
	}
	return ids, nil
}
