// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// TestFeatures expects all there is: a kernel that can run the other tests has
// everything but, maybe, tcx.
func TestFeatures(t *testing.T) {
	for _, f := range Features() {
		has := true
		if f.Name == "tcx" {
			has = hasTCX(t)
		}
		if (f.Err == nil) != has || f.Err != nil && !errors.Is(f.Err, ErrUnsupported) {
			t.Errorf("%s: %v", f.Name, f.Err)
		}
		if (f.Instead == "clsact") != (f.Name == "tcx") {
			t.Errorf("instead of %s serves %q", f.Name, f.Instead)
		}
	}
	if err := Requirements(); err != nil {
		t.Error("Requirements:", err)
	}
}

// TestFeaturesCapabilities blames the process, not the kernel, and says of
// nothing that it is there which could not be looked for.
func TestFeaturesCapabilities(t *testing.T) {
	withCapabilities(t, []uint{unix.CAP_NET_RAW}, func() {
		for _, f := range Features() {
			known := slices.Contains([]string{"tun device", "ring buffer", "coarse clock"}, f.Name) // of these two from before
			if refused := errors.Is(f.Err, ErrPermission); !refused && (f.Err != nil || !known) {
				t.Errorf("%s: %v", f.Name, f.Err)
			}
		}
	})
}

func TestFeaturesTUN(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tun")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, file + "-missing"} {
		if err := probeTUN(path); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestRefused has somebody forbid what a process has the capabilities for.
func TestRefused(t *testing.T) {
	for _, test := range []struct {
		err        error
		permission bool
	}{
		{unix.EPERM, true}, {unix.EACCES, false}, {unix.EMFILE, false},
	} {
		if err := refused(test.err); errors.Is(err, ErrPermission) != test.permission || !errors.Is(err, test.err) {
			t.Errorf("%v: %v", test.err, err)
		}
	}
}

func TestFeaturesSince(t *testing.T) {
	if err := since("5.8", ebpf.ErrNotSupported); !errors.Is(err, ErrUnsupported) {
		t.Errorf("of a feature that is missing: %v", err)
	}
	if err := since("5.8", unix.EPERM); !errors.Is(err, ErrPermission) {
		t.Errorf("of a feature that may not be looked for: %v", err)
	}
	for _, probe := range []error{nil, unix.EMFILE} {
		if err := since("5.8", probe); err != nil {
			t.Errorf("of a probe that says %v: %v", probe, err)
		}
	}
}

func TestCheck(t *testing.T) {
	for dir, good := range map[string]bool{bpffs: true, t.TempDir(): false, bpffs + "/nosuchfolder": false} {
		if err := CheckPinDir(dir); (err == nil) != good {
			t.Errorf("CheckPinDir(%s): %v", dir, err)
		}
	}
	if err := CheckDevice(newDevice(t).name); err != nil {
		t.Error("CheckDevice:", err)
	}
}
