// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"

	"github.com/lazybpf/lazybpf/internal/control"
	"github.com/lazybpf/lazybpf/internal/wg"
	"github.com/lazybpf/lazybpf/pkg/detect"
)

// Restore undoes what a daemon that did not end cleanly has left: it gives
// peers their keepalives back, and returns how many, and removes filters, pins,
// socket and journal. Where a daemon is at work it touches nothing and says so.
func Restore(iface, controlPath, bpffs string) (int, error) {
	if err := detect.RemoveLeftovers(iface, PinDir(bpffs, iface)); err != nil {
		return 0, explain(iface, err)
	}
	// A socket that nobody listens on gives way, and goes with the listener.
	listener, err := control.Listen(controlPath)
	if err != nil {
		return 0, explain(iface, err)
	}
	if err := listener.Close(); err != nil {
		return 0, fmt.Errorf("remove control socket: %w", err)
	}
	journal := JournalOf(controlPath)
	device, err := wg.Open(iface)
	if errors.Is(err, wg.ErrNoDevice) {
		return 0, journal.Remove() // its peers went with it
	}
	if err != nil {
		return 0, explain(iface, err)
	}
	restored, err := journal.Restore(device)
	return restored, errors.Join(err, device.Close())
}
