// SPDX-License-Identifier: Apache-2.0

// Report writes docs/benchmarks.md and its plots from what `go test -bench` has
// printed:
//
//	report RESULTS DOCS
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: report RESULTS DOCS")
	}
	file, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer file.Close()
	r, err := parse(file)
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	text, err := r.document()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(args[1], "benchmarks.md"), []byte(text), 0o644); err != nil {
		return err
	}
	return r.plot(filepath.Join(args[1], "images"))
}
