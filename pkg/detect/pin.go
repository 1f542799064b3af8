// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// pins are maps in a folder of bpffs, for people with bpftool.
type pins struct {
	dir  string
	made []string // folders that were not there, outermost first
}

// pinned are the names of the maps that are pinned.
var pinned = []string{bpfMapPeers, bpfMapRoutes, bpfMapRules, bpfMapStats}

// Pin makes the maps "peers", "routes", "rules" and "stats" appear as files in
// dir, which is made if need be and must be on a bpffs. What is there under
// these names is replaced, and what an earlier call has pinned goes. Close
// removes them. If somebody else removes the folder meanwhile, it stays away.
// Error: ErrClosed, or what the file system said; then nothing is pinned.
func (d *Detector) Pin(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return ErrClosed
	}
	if err := d.pins.remove(); err != nil {
		return err
	}
	d.pins = nil
	p := &pins{dir: dir}
	folder := dir
	for ; !exists(folder); folder = filepath.Dir(folder) {
		p.made = append([]string{folder}, p.made...)
	}
	if err := CheckPinDir(folder); err != nil { // before anything is removed there
		return fmt.Errorf("pin maps: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return errors.Join(fmt.Errorf("pin maps: %w", err), p.remove())
	}
	d.pins = p
	if err := d.repin(); err != nil {
		d.pins = nil
		return errors.Join(fmt.Errorf("pin maps: %w", err), p.remove())
	}
	return nil
}

// CheckPinDir says whether maps can be pinned in a folder that exists: it must
// be on a bpffs.
func CheckPinDir(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil || fs.Type != unix.BPF_FS_MAGIC {
		return fmt.Errorf("%s is on no bpffs; try mount -t bpf bpf /sys/fs/bpf", dir)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// repin makes the pins show the tables of now, each from one moment to the next.
func (d *Detector) repin() error {
	if d.pins == nil {
		return nil
	}
	maps := []*ebpf.Map{d.tables.Peers, d.tables.Routes, d.shared.Rules, d.shared.Stats}
	for i, m := range maps {
		path := filepath.Join(d.pins.dir, pinned[i])
		next := path + "_new"
		if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := m.Pin(next); err != nil {
			return err
		}
		// Unpin removes what Rename could not move, and makes the map forget
		// the name, so that it can be pinned again.
		if err := errors.Join(os.Rename(next, path), m.Unpin()); err != nil {
			return err
		}
	}
	return nil
}

// remove removes the pins and the folders made for them.
func (p *pins) remove() error {
	if p == nil {
		return nil
	}
	err := removePins(p.dir)
	for i := len(p.made) - 1; i >= 0; i-- {
		_ = os.Remove(p.made[i]) // others may use it by now
	}
	return err
}

func removePins(dir string) error {
	var errs []error
	for _, name := range pinned {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove pin: %w", err))
		}
	}
	return errors.Join(errs...)
}

// RemoveLeftovers removes what a detector that died has left: tc filters on
// the device, and pins in the folder (none if empty) with the folder itself.
// Errors: ErrBusy if a detector is at work, in which case nothing is touched,
// ErrLinkLayer, and ErrPermission. A device that does not exist has no leftovers,
// nor has a folder that is on no bpffs.
func RemoveLeftovers(device, pinDir string) error {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer nl.Close()
	link, err := freeDevice(nl, device)
	switch {
	case err == nil:
		err = removeFilters(nl, link.Index)
	case errors.Is(err, ErrNoDevice):
		err = nil
	}
	if err != nil {
		return explain(err)
	}
	if pinDir == "" || CheckPinDir(pinDir) != nil { // files of these names are no pins elsewhere
		return nil
	}
	if err := removePins(pinDir); err != nil {
		return err
	}
	_ = os.Remove(pinDir)
	return nil
}

// CheckDevice says whether a detector could watch a device. It changes
// nothing. Errors: ErrNoDevice, ErrLinkLayer, ErrBusy.
func CheckDevice(device string) error {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer nl.Close()
	_, err = freeDevice(nl, device)
	return err
}

// freeDevice returns a device that no detector watches.
func freeDevice(nl *netlink.Handle, name string) (*netlink.LinkAttrs, error) {
	link, err := findDevice(nl, name)
	if err != nil {
		return nil, err
	}
	if _, err := nl.LinkByName(parkingName(link.Index)); err == nil {
		return nil, fmt.Errorf("%w to %s", ErrBusy, name)
	}
	return link, nil
}
