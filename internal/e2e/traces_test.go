// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"github.com/lazybpf/lazybpf/internal/daemon"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
)

// traces lists what there is on the machine of a daemon with these options, by name: what it must take away when it ends.
func traces(t testing.TB, options daemon.Options) (found []string) {
	t.Helper()
	device, err := net.InterfaceByName(options.Interface)
	if err != nil {
		t.Fatal(err)
	}
	found = append(found, tcxPrograms(t, device.Index)...)
	found = append(found, filters(t, device.Index)...)
	if _, err := net.InterfaceByName(fmt.Sprintf("lazy%d", device.Index)); err == nil {
		found = append(found, "parking device")
	}
	pins := daemon.PinDir(options.BPFFS, options.Interface)
	err = filepath.WalkDir(pins, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			path = "pin " + entry.Name()
		}
		found = append(found, path)
		return err
	})
	if errors.Is(err, os.ErrNotExist) {
		found = slices.DeleteFunc(found, func(name string) bool { return name == pins })
	} else if err != nil {
		t.Fatal(err)
	}
	// The socket, the journal, and what a journal is written to before it is complete.
	files, err := filepath.Glob(strings.TrimSuffix(options.Control, ".sock") + ".*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		found = append(found, filepath.Ext(file))
	}
	slices.Sort(found)
	return found
}

// tcxPrograms are the names of the programs on the device's tcx hooks; none where the kernel has no tcx.
func tcxPrograms(t testing.TB, ifindex int) (names []string) {
	t.Helper()
	for _, hook := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
		programs, err := labtest.TCXPrograms(ifindex, hook)
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range programs {
			names = append(names, "tcx "+programName(t, id))
		}
	}
	return names
}

func programName(t testing.TB, id ebpf.ProgramID) string {
	t.Helper()
	program, err := ebpf.NewProgramFromID(id)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	info, err := program.Info()
	if err != nil {
		t.Fatal(err)
	}
	return info.Name
}

// filters are the names of the filters on the device's clsact qdisc, and the qdisc's own.
func filters(t testing.TB, ifindex int) (names []string) {
	t.Helper()
	device := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: ifindex}}
	qdiscs, err := netlink.QdiscList(device)
	if err != nil {
		t.Fatal(err)
	}
	for _, qdisc := range qdiscs {
		if qdisc.Type() == "clsact" {
			names = append(names, "qdisc clsact")
		}
	}
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		filters, err := netlink.FilterList(device, parent)
		if err != nil {
			t.Fatal(err)
		}
		for _, filter := range filters {
			if bpf, ok := filter.(*netlink.BpfFilter); ok {
				names = append(names, "filter "+bpf.Name)
			}
		}
	}
	return names
}

// What a daemon leaves on the machine while it runs, by the hook that it uses.
var (
	onTCX    = []string{"tcx lazybpf_egress", "tcx lazybpf_ingress"}
	onClsact = []string{"filter lazybpf_egress", "filter lazybpf_ingress", "qdisc clsact"}
	inFiles  = []string{".journal", ".sock", "pin peers", "pin routes", "pin rules", "pin stats"}
	parking  = []string{"parking device"}
)

// checkTraces fails the test unless the daemon has left exactly these traces.
func checkTraces(t testing.TB, options daemon.Options, want ...string) {
	t.Helper()
	if slices.Contains(want, "pin peers") {
		want = append(want, daemon.PinDir(options.BPFFS, options.Interface))
	}
	slices.Sort(want)
	if got := traces(t, options); !slices.Equal(got, want) {
		t.Errorf("on the machine there is\n%q, want\n%q", got, want)
	}
}
