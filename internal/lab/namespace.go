// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// namespace is a network namespace; it lives as long as it is open or anything is opened in it.
type namespace struct{ file *os.File }

// currentNamespace opens the one of the calling thread.
func currentNamespace() (*namespace, error) {
	file, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("open the current network namespace: %w", err)
	}
	return &namespace{file}, nil
}

// newNamespace makes one without a name.
func newNamespace() (created *namespace, err error) {
	current, err := currentNamespace()
	if err != nil {
		return nil, err
	}
	defer current.Close()
	err = current.do(func() error { // which brings the thread back
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		created, err = currentNamespace()
		return err
	})
	return created, err
}

func (ns *namespace) Close() error { return ns.file.Close() }

// do calls fn on this goroutine with its thread in the namespace, and brings the thread back after it, even if fn panics or
// ends its test. It can be nested.
func (ns *namespace) do(fn func() error) (err error) {
	runtime.LockOSThread()
	back, err := currentNamespace()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer func() {
		restored := back.enter()
		if restored == nil {
			// Otherwise the thread stays locked: it ends with this goroutine and runs no other in the wrong place.
			runtime.UnlockOSThread()
		}
		err = errors.Join(err, restored, back.Close())
	}()

	if err := ns.enter(); err != nil {
		return err
	}
	return fn()
}

// enter brings the calling thread into the namespace. Like any use of an [os.File] it may race with Close, and then fails.
func (ns *namespace) enter() error {
	raw, err := ns.file.SyscallConn()
	if err != nil {
		return err
	}
	controlErr := raw.Control(func(fd uintptr) {
		err = unix.Setns(int(fd), unix.CLONE_NEWNET)
	})
	if err := errors.Join(controlErr, err); err != nil {
		return fmt.Errorf("enter a network namespace: %w", err)
	}
	return nil
}
