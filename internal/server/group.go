// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"
)

// Group is a group of users who may read: see the status and follow events.
// The zero value is none.
type Group struct {
	Name string // or the number, as it was given
	ID   uint32
}

// ParseGroup finds a group by its name in /etc/group, or takes its number.
// Empty text is none.
func ParseGroup(text string) (Group, error) {
	if text == "" {
		return Group{}, nil
	}
	number := text
	g, err := user.LookupGroup(text)
	if err == nil {
		number = g.Gid
	}
	id, parseErr := strconv.ParseUint(number, 10, 32)
	var unknown user.UnknownGroupError
	switch {
	case parseErr == nil && id != noGroup:
		return Group{Name: text, ID: uint32(id)}, nil
	case err == nil || errors.As(err, &unknown):
		return Group{}, errors.New("must be a group of /etc/group or the number of one: groupadd --system makes one")
	}
	return Group{}, fmt.Errorf("the group cannot be looked up: %w", err)
}

// noGroup is what chown takes for "leave it".
const noGroup = 1<<32 - 1

// String is the name.
func (g Group) String() string { return g.Name }
