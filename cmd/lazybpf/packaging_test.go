// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestManPageOfFileHasFlags(t *testing.T) {
	page, err := os.ReadFile("../../packaging/lazybpf.toml.5.md")
	if err != nil {
		t.Fatal(err)
	}
	newSettings().flags.VisitAll(func(f *pflag.Flag) {
		if f.Name != "config" && !strings.Contains(string(page), "**"+f.Name+"**") {
			t.Errorf("lazybpf.toml(5) does not explain %s", f.Name)
		}
	})
}

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
