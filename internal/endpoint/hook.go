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
	"unicode"

	"golang.org/x/sys/unix"
)

// maxOutput is how much of what a hook prints is read: the last of it.
const maxOutput = 64 << 10

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

	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env, cmd.Dir = environment, "/"
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("%w: killed", ctx.Err())
	case err != nil:
		if said := lastLine(content(stderr)); said != "" {
			err = fmt.Errorf("%w: %s", err, said)
		}
		return "", err
	}
	return content(stdout), nil
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
