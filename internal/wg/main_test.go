// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"testing"

	"github.com/lazybpf/lazybpf/internal/lab/labtest"
)

// TestMain runs the tests in a network namespace of their own, for those with real devices.
func TestMain(m *testing.M) { labtest.Main(m) }
