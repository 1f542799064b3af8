// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/pkg/detect"
)

// The cells of the README's table of kernels, from worst to best.
var cells = []string{"refused", "missing", "clsact", "ok"}

// kernelRow is one of its rows: what each column says of a kernel.
type kernelRow struct {
	labtest.Linux
	cells map[string]string
}

// kernelTable reads the table, whose first column is headed Linux.
func kernelTable(t testing.TB) (rows []kernelRow) {
	t.Helper()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(readme), "\n| Linux |")
	if !found {
		t.Fatal("README.md has no table of kernels")
	}
	lines := strings.Split("| Linux |"+table, "\n")
	head := columns(lines[0])
	for _, line := range lines[2:] {
		if !strings.HasPrefix(line, "|") {
			break
		}
		row := columns(line)
		if len(row) != len(head) {
			t.Fatalf("README.md: %d columns in %s", len(row), line)
		}
		r := kernelRow{labtest.ParseLinux(t, row[0]), make(map[string]string)}
		for i, name := range head[1:] {
			r.cells[name] = row[i+1]
		}
		rows = append(rows, r)
	}
	return rows
}

func columns(line string) (cells []string) {
	for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
		cells = append(cells, strings.Trim(cell, " `"))
	}
	return cells
}

// TestKernelTable compares the README's table of kernels with what lazybpf finds on this one. A kernel without a row has at
// least what the last one before it has.
func TestKernelTable(t *testing.T) {
	here := map[string]string{"lazybpf run": "ok"}
	if err := detect.Requirements(); err != nil {
		t.Log(err)
		here["lazybpf run"] = "refused"
	}
	for _, f := range detect.Features() {
		switch {
		case f.Err == nil:
			here[f.Name] = "ok"
		case f.Instead != "":
			here[f.Name] = f.Instead
		default:
			here[f.Name] = "missing"
		}
	}

	var row kernelRow
	running := labtest.RunningLinux(t)
	for _, r := range kernelTable(t) {
		if !row.Before(r.Linux) {
			t.Errorf("Linux %s stands after %s", r, row)
		}
		for column, cell := range r.cells {
			if !slices.Contains(cells, cell) || here[column] == "" {
				t.Errorf("Linux %s: lazybpf check does not say %q of %q", r, cell, column)
			}
		}
		if !running.Before(r.Linux) {
			row = r
		}
	}
	for column, want := range row.cells {
		got := here[column]
		if better := slices.Index(cells, got) > slices.Index(cells, want); got != want && (row.Linux == running || !better) {
			t.Errorf("Linux %s: %s: %q; the README says %q of Linux %s", running, column, got, want, row)
		}
	}
	t.Logf("Linux %s: %v; row %s: %v", running, here, row, row.cells)
}
