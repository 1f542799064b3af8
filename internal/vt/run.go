// SPDX-License-Identifier: Apache-2.0

package vt

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Program is a command that runs on a terminal of its own.
type Program struct {
	Cmd *exec.Cmd

	person *os.File // the end of the terminal where a person would look and type
	mu     sync.Mutex
	screen *Screen
	raw    strings.Builder
	ended  chan struct{}
	err    error
}

// Open returns a terminal of some size, and its other end, where a person would look. The caller closes both.
func Open(width, height int) (terminal, person *os.File, err error) {
	person, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			person.Close()
		}
	}()
	number := 0
	err = control(person, func(fd int) (err error) {
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return err
		}
		number, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if err := setSize(person, width, height); err != nil {
		return nil, nil, err
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	return terminal, person, err
}

// control leaves the file to the runtime's poller, which [os.File.Fd] would take it from: a reader could not be ended.
func control(f *os.File, do func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	failure := conn.Control(func(fd uintptr) { err = do(int(fd)) })
	return errors.Join(failure, err)
}

func setSize(f *os.File, width, height int) error {
	return control(f, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: uint16(width), Row: uint16(height)})
	})
}

// Start runs a command on a new terminal, which is its standard input, output and error. The caller calls Close.
func Start(cmd *exec.Cmd, width, height int) (*Program, error) {
	terminal, person, err := Open(width, height)
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	defer terminal.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		person.Close()
		return nil, err
	}
	p := &Program{Cmd: cmd, person: person, screen: New(width, height), ended: make(chan struct{})}
	go p.watch()
	return p, nil
}

// watch ends when the last process on the terminal has.
func (p *Program) watch() {
	defer close(p.ended)
	buffer := make([]byte, 1<<16)
	for {
		n, err := p.person.Read(buffer)
		p.mu.Lock()
		_, _ = p.screen.Write(buffer[:n])
		p.raw.Write(buffer[:n])
		p.mu.Unlock()
		if err != nil { // EIO
			break
		}
	}
	p.err = p.Cmd.Wait()
}

// Type sends keys as a terminal does.
func (p *Program) Type(keys string) error {
	_, err := p.person.WriteString(keys)
	return err
}

// Resize changes the terminal's size, of which the program is told.
func (p *Program) Resize(width, height int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.screen.Resize(width, height)
	return setSize(p.person, width, height)
}

// Look gives do the screen as it is now, and what was written so far to make it so.
func (p *Program) Look(do func(s *Screen, raw string)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	do(p.screen, p.raw.String())
}

// Text is the screen's.
func (p *Program) Text() (text string) {
	p.Look(func(s *Screen, _ string) { text = s.String() })
	return text
}

// Await waits until the screen's text is as wanted; ok is false if it never was within the time, or the program ended.
func (p *Program) Await(within time.Duration, wanted func(text string) bool) (text string, ok bool) {
	deadline := time.After(within)
	for {
		select {
		case <-p.ended:
			text = p.Text()
			return text, wanted(text)
		case <-deadline:
			return p.Text(), false
		case <-time.After(20 * time.Millisecond):
			if text = p.Text(); wanted(text) {
				return text, true
			}
		}
	}
}

// Wait returns how the command ended.
func (p *Program) Wait(within time.Duration) error {
	select {
	case <-p.ended:
		return p.err
	case <-time.After(within):
		return fmt.Errorf("%s still runs after %s", p.Cmd, within)
	}
}

// Close ends the command, if it has not ended.
func (p *Program) Close() error {
	select {
	case <-p.ended:
	default:
		_ = p.Cmd.Process.Kill()
		<-p.ended
	}
	return p.person.Close()
}
