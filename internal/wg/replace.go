// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"errors"
	"os"
)

// replaceFile makes a file that only its owner can read, in place of the one at
// path: whole or not at all, also if the machine loses its power.
func replaceFile(path string, content []byte) error {
	file, err := createOver(path, content)
	if err != nil {
		return err
	}
	return file.Close()
}

// createOver is replaceFile, but returns the file, to append to it.
func createOver(path string, content []byte) (*os.File, error) {
	next := nextOf(path)
	if err := removeFile(next); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err = file.Write(content); err == nil {
		err = file.Sync() // else the name could be written to the disk before the content
	}
	if err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close(), os.Remove(next))
	}
	return file, nil
}

// nextOf is where a file is written until it is whole. The name is always the
// same, so that nothing piles up of daemons that die meanwhile.
func nextOf(path string) string { return path + ".new" }

// removeFile removes a file. That there is none is no error.
func removeFile(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
