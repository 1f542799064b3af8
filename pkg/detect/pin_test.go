// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
)

const bpffs = "/sys/fs/bpf"

// expectPinned compares what is in a folder with what is pinned, and where that
// leads to with the detector's maps.
func expectPinned(t *testing.T, d detector, dir string) {
	t.Helper()
	want := map[string]*ebpf.Map{
		"peers": d.tables.Peers, "routes": d.tables.Routes,
		"rules": d.shared.Rules, "stats": d.shared.Stats,
	}
	if got := entries(t, dir); !slices.Equal(got, []string{"peers", "routes", "rules", "stats"}) {
		t.Fatalf("in %s there is %q", dir, got)
	}
	for name, m := range want {
		pinned, err := ebpf.LoadPinnedMap(filepath.Join(dir, name), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := mapID(t, pinned), mapID(t, m); got != want {
			t.Errorf("%s is map %d, want %d", name, got, want)
		}
		pinned.Close()
	}
}

func mapID(t *testing.T, m *ebpf.Map) ebpf.MapID {
	t.Helper()
	info, err := m.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := info.ID()
	return id
}

// entries are the names in a folder, none if it does not exist.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	found, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range found {
		names = append(names, e.Name())
	}
	return names
}

func TestPin(t *testing.T) {
	t.Parallel()
	d := newRig(t, Options{})
	first, second, there := bpffs+"/first/of/all", bpffs+"/second", bpffs+"/there"
	if err := os.Mkdir(there, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{first, first, second, there, first} {
		if err := d.Pin(dir); err != nil {
			t.Fatal(err)
		}
		expectPinned(t, d, dir)
		for _, other := range []string{first, second, there} {
			if left := entries(t, other); other != dir && len(left) > 0 {
				t.Errorf("%s: %q are left in %s", dir, left, other)
			}
		}
	}
	for range minCapacity + 1 { // the tables grow
		d.mustAdd()
	}
	expectPinned(t, d, first)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for _, made := range []string{bpffs + "/first", second} {
		if _, err := os.Stat(made); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after Close there is still %s: %v", made, err)
		}
	}
	if err := os.Remove(there); err != nil { // it was there, and is empty
		t.Error(err)
	}
}

// TestPinReplaces finds pins of somebody who is gone, and a folder that others
// use.
func TestPinReplaces(t *testing.T) {
	t.Parallel()
	dir := bpffs + "/used"
	older := newRig(t, Options{})
	if err := older.Pin(dir); err != nil {
		t.Fatal(err)
	}
	foreign, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer foreign.Close()
	if err := foreign.Pin(dir + "/foreign"); err != nil {
		t.Fatal(err)
	}
	d := newRig(t, Options{})
	if err := d.Pin(dir); err != nil {
		t.Fatal(err)
	}
	if err := foreign.Unpin(); err != nil {
		t.Fatal(err)
	}
	expectPinned(t, d, dir)
}

func TestPinErrors(t *testing.T) {
	t.Parallel()
	d := newRig(t, Options{})
	good := bpffs + "/good"
	plain := t.TempDir()
	for range 2 {
		for _, bad := range []string{plain + "/no/bpffs", plain, "/proc/nosuchfolder"} {
			if err := d.Pin(bad); err == nil {
				t.Errorf("pinned in %s", bad)
			}
			if left := entries(t, plain); len(left) > 0 {
				t.Errorf("Pin(%s) has left %q", bad, left)
			}
			if left := entries(t, good); len(left) > 0 {
				t.Errorf("after Pin(%s) failed %q are still pinned", bad, left)
			}
		}
		// The detector, and a later Pin, are none the worse for it.
		d.mu.Lock()
		c := d.tables.capacity
		err := d.grow(capacity{2 * c.peers, c.routes})
		d.mu.Unlock()
		if err := errors.Join(err, d.Pin(good)); err != nil {
			t.Fatal(err)
		}
		expectPinned(t, d, good)
	}
}

// TestPinElsewhere is about a folder that is on no bpffs: what has the names of
// pins there is somebody's file.
func TestPinElsewhere(t *testing.T) {
	t.Parallel()
	d := newRig(t, Options{})
	dir := t.TempDir()
	for _, name := range pinned {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Pin(dir); err == nil {
		t.Error("pinned")
	}
	if err := RemoveLeftovers("nosuchdevice", dir); err != nil {
		t.Error("RemoveLeftovers:", err)
	}
	if left := entries(t, dir); len(left) != len(pinned) {
		t.Errorf("of the files %q are left", left)
	}
}

// TestPinTaken has somebody remove the pins before the tables grow: peers are
// added all the same.
func TestPinTaken(t *testing.T) {
	t.Parallel()
	d := newRig(t, Options{})
	dir := bpffs + "/taken"
	if err := errors.Join(d.Pin(dir), os.RemoveAll(dir)); err != nil {
		t.Fatal(err)
	}
	for range minCapacity + 1 {
		d.mustAdd()
	}
	if left := entries(t, dir); len(left) > 0 {
		t.Errorf("pinned are %q", left)
	}
	if err := d.Pin(dir); err != nil {
		t.Fatal(err)
	}
	expectPinned(t, d, dir)
}
