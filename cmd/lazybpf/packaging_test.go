// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestExampleOfFile(t *testing.T) {
	example, err := os.ReadFile("../../packaging/example.toml")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "wg0.toml")
	if err := os.WriteFile(path, example, 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := lazybpf(t, "run wg0 --check-config --config "+path)
	if code != 0 {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
}
