// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"

	"github.com/lazybpf/lazybpf/internal/server"
	"github.com/lazybpf/lazybpf/internal/wg"
	"github.com/lazybpf/lazybpf/pkg/detect"
)

// Restore undoes what a daemon that did not end cleanly has left: it gives
// peers their keepalives back, puts back those that were evicted, and returns
// how many of both; it removes filters, pins, socket, and the two files that
// say how peers were. Where a daemon is at work it touches nothing and says so.
func Restore(iface, controlPath, bpffs string) (int, error) {
	if err := detect.RemoveLeftovers(iface, PinDir(bpffs, iface)); err != nil {
		return 0, explain(iface, err)
	}
	// A socket that nobody listens on gives way. The new one keeps daemons out
	// until it goes.
	listener, err := server.Listen(controlPath, server.Group{})
	if err != nil {
		return 0, explain(iface, err)
	}
	restored, err := restore(iface, controlPath)
	if closing := listener.Close(); closing != nil {
		err = errors.Join(err, fmt.Errorf("remove control socket: %w", closing))
	}
	return restored, explain(iface, err)
}

// restore gives back what the files of a dead daemon say, and removes them.
func restore(iface, controlPath string) (int, error) {
	journal, evicted := JournalOf(controlPath), wg.NewEvictedFile(EvictedOf(controlPath))
	device, err := wg.Open(iface)
	if errors.Is(err, wg.ErrNoDevice) {
		return 0, errors.Join(journal.Remove(), evicted.Remove()) // its peers went with it
	}
	if err != nil {
		return 0, err
	}
	left, _ := journal.Load() // one that cannot be read keeps no evicted peers away
	if name := left.Neighbour(device); name != "" {
		return 0, errors.Join(ofNeighbour(name, controlPath), device.Close())
	}
	err = evicted.Load(device)
	var back int
	if err == nil {
		back, err = evicted.PutBack(device, true)
	}
	given, journalErr := journal.Restore(device)
	return back + given, errors.Join(err, journalErr, device.Close())
}

// ofNeighbour says that what a dead daemon has left is of another interface, which
// needs it yet.
func ofNeighbour(name, controlPath string) error {
	return fmt.Errorf("journal %s is of %s: lazybpf restore %[2]s --control %s, or give another path with --control",
		JournalOf(controlPath), name, controlPath)
}
