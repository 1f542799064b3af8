// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
)

// maxOutput is how much of what a hook prints is read: the last of it.
const maxOutput = 64 << 10

// A hook that prints without end is killed before it has filled the memory: its
// output is looked at so often.
const (
	outputLimit    = 16 << 20
	outputInterval = 20 * time.Millisecond
)

var errPrints = fmt.Errorf("it has printed more than %d MiB", outputLimit>>20)

// run runs a program without a shell, in a process group of its own, and
// returns what it has printed. When ctx ends the group is killed; what a program
// that ended by itself has left running goes on.
func run(ctx context.Context, argv, environment []string) (string, error) {
	// Files, not pipes: a pipe would have to be read until the last of the
	// program's children has closed it.
	stdout, err := newFile("stdout")
	if err != nil {
		return "", err
	}
	defer stdout.Close()
	stderr, err := newFile("stderr")
	if err != nil {
		return "", err
	}
	defer stderr.Close()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go limitOutput(ctx, cancel, stdout, stderr)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env, cmd.Dir = environment, "/"
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("%w: killed", context.Cause(ctx))
	case err != nil:
		if said := lastLine(content(stderr)); said != "" {
			err = fmt.Errorf("%w: %s", err, said)
		}
		return "", err
	}
	return content(stdout), nil
}

// limitOutput cancels what writes to files when these are too long.
func limitOutput(ctx context.Context, cancel context.CancelCauseFunc, files ...*os.File) {
	ticker := time.NewTicker(outputInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, f := range files {
			if info, err := f.Stat(); err == nil && info.Size() > outputLimit {
				cancel(errPrints)
			}
		}
	}
}

// newFile makes a file in memory that has no name elsewhere.
func newFile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// content is what was written to a file. If that is much, it is the last whole
// lines.
func content(f *os.File) string {
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	begin := max(info.Size()-maxOutput, 0)
	text, _ := io.ReadAll(io.NewSectionReader(f, begin, maxOutput))
	if begin > 0 {
		_, text, _ = bytes.Cut(text, []byte{'\n'})
	}
	return string(text)
}

// lastLine is for people's terminals: without what would move their cursor.
func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text[strings.LastIndexByte(text, '\n')+1:])
}
