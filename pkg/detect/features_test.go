// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"errors"
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

// TestFeaturesCapabilities blames the process, not the kernel.
func TestFeaturesCapabilities(t *testing.T) {
	withCapabilities(t, []uint{unix.CAP_NET_RAW}, func() {
		for _, f := range Features() {
			if got := errors.Is(f.Err, ErrPermission); got != (f.Name == "capabilities") {
				t.Errorf("%s: %v", f.Name, f.Err)
			}
			if errors.Is(f.Err, ErrUnsupported) {
				t.Errorf("%s: %v", f.Name, f.Err)
			}
		}
	})
}

func TestFeaturesSince(t *testing.T) {
	if err := since("5.8", ebpf.ErrNotSupported); !errors.Is(err, ErrUnsupported) {
		t.Errorf("of a feature that is missing: %v", err)
	}
	for _, probe := range []error{nil, unix.EPERM} {
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
