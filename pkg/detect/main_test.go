// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"os"
	"testing"

	"github.com/lazybpf/lazybpf/internal/lab/labtest"
)

// TestMain runs the tests in a network namespace of their own: their devices
// are real, and nobody else's.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == watchCommand {
		os.Exit(watch(os.Args[2], os.Args[3]))
	}
	labtest.Main(m)
}
