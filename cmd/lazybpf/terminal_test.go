// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lazybpf/lazybpf/internal/control"
)

// openTerminal returns a terminal of some height, and its other end, where a person would look.
func openTerminal(t *testing.T, rows uint16) (terminal, person *os.File) {
	t.Helper()
	open := func(path string) *os.File {
		file, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.Close() })
		return file
	}
	person = open("/dev/ptmx")
	fd := int(person.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: 80}); err != nil {
		t.Fatal(err)
	}
	return open(fmt.Sprintf("/dev/pts/%d", n)), person
}

func TestTerminal(t *testing.T) {
	statuses := []control.Status{sampleStatus()}
	for _, test := range []struct {
		noColour string
		colours  bool
	}{{"", true}, {"1", false}} {
		t.Setenv("NO_COLOR", test.noColour)
		terminal, person := openTerminal(t, 10)
		if err := redrawTables(terminal, statuses); err != nil {
			t.Fatal(err)
		}
		terminal.Close()
		seen, err := io.ReadAll(person)
		if !errors.Is(err, unix.EIO) { // how the end of a closed terminal reads
			t.Fatal(err)
		}
		text, cleared := strings.CutPrefix(string(seen), clearScreen)
		if !cleared {
			t.Errorf("the screen is not cleared: %q", text)
		}
		if strings.Contains(text, dim) != test.colours || strings.Contains(text, yellow) != test.colours {
			t.Errorf("NO_COLOR=%s: %q", test.noColour, text)
		}
		if lines := strings.Count(text, "\n"); lines != 9 || !strings.HasSuffix(text, "more lines\r\n") {
			t.Errorf("%d lines on a terminal of 10:\n%s", lines, text)
		}
	}
}

func TestCrop(t *testing.T) {
	const text = "1\n2\n3\n4\n5\n"
	for rows, want := range map[int]string{
		0: text, 2: text, 6: text, 7: text,
		5: "1\n2\n3\n… 2 more lines\n",
		3: "1\n… 4 more lines\n",
	} {
		if got := crop(text, rows); got != want {
			t.Errorf("%d rows: %q, want %q", rows, got, want)
		}
	}
}
