// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"testing"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/pkg/control"
)

// TestRenamed has the interface get another name. That is gone for the daemon, as an interface that is deleted; but its peers
// are there still, and get back what they had.
func TestRenamed(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	add(t, n, far, "10.98.0.0/24")
	evictee := keyOf("Evic")
	add(t, n, evictee, "10.98.1.0/24")
	d := manage(t, optionsFor(t, n))
	evict(t, d, evictee)
	labtest.Rename(t, n.Here.Name, "other"+n.Here.Name)
	look(t, d)
	if s, _ := d.now(); s != nil {
		t.Error("there is a session")
	}
	expectFiles(t, d, "wg0.sock")
	labtest.Rename(t, "other"+n.Here.Name, n.Here.Name)
	expectKeepalive(t, n, far, every)
	expectKeepalive(t, n, evictee, every)
	look(t, d)
	expectState(t, d, far, control.StateIdle)
}
