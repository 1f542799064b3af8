// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// keyError is an error about a key of the file: peers, office, rules, 2, ports.
type keyError struct {
	key []string
	err error
}

func (e *keyError) Error() string { return dotted(e.key) + ": " + e.err.Error() }
func (e *keyError) Unwrap() error { return e.err }

// dotted writes a key as it would stand in a file.
func dotted(key []string) string {
	parts := slices.Clone(key)
	for i, part := range parts {
		bare := func(r rune) bool {
			return r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z'
		}
		if part == "" || strings.TrimFunc(part, bare) != "" {
			parts[i] = strconv.Quote(part)
		}
	}
	return strings.Join(parts, ".")
}

// wrong makes an error about a key, within those of an error that is one already.
func wrong(err error, key ...string) error {
	var inner *keyError
	if err == nil {
		return nil
	}
	if errors.As(err, &inner) {
		return &keyError{append(key, inner.key...), inner.err}
	}
	return &keyError{key, err}
}

// line finds the line of a key, or of what it stands in. Tables of a list are
// counted from 1.
func (f source) line(key []string) int {
	var p unstable.Parser
	p.Reset(f.content)
	line, best := 1, 0
	var table []string
	seen := make(map[string]int)
	for p.NextExpression() {
		e := p.Expression()
		var names []string
		var at unstable.Range
		for it := e.Key(); it.Next(); {
			names = append(names, string(it.Node().Data))
			at = it.Node().Raw
		}
		switch e.Kind {
		case unstable.ArrayTable:
			list := strings.Join(names, "\x00")
			seen[list]++
			table = append(names, strconv.Itoa(seen[list]))
			names = table
		case unstable.Table:
			table = names
		default:
			names = slices.Concat(table, names)
		}
		if n := common(names, key); n > best && n == len(names) {
			line, best = p.Shape(at).Start.Line, n
		}
	}
	return line
}

// common is how many elements two lists have in common at their beginning.
func common(a, b []string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
