// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lazybpf/lazybpf/internal/server"
	"github.com/lazybpf/lazybpf/internal/view"
	"github.com/lazybpf/lazybpf/pkg/control"
)

// usageError is wrong usage: exit code 2 instead of 1.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// The functions below check what follows a command's name; see [cobra.PositionalArgs].

func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return usagef("unknown command %q: did you mean %s?", args[0], strings.Join(near, " or "))
	}
	return usagef("unknown command %q", args[0])
}

func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unexpected argument %q", args[0])
	}
	return nil
}

// oneInterface is IFACE.
func oneInterface(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usagef("no interface given")
	}
	return optionalInterface(cmd, args)
}

// optionalInterface is [IFACE].
func optionalInterface(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if err := checkInterface(args[0]); err != nil {
		return err
	}
	return noArgs(cmd, args[1:])
}

// first is the interface of optionalInterface; empty: none.
func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// interfaceAndPeers is IFACE PEER….
func interfaceAndPeers(cmd *cobra.Command, args []string) error {
	switch len(args) {
	case 0:
		return usagef("no interface and no peer given")
	case 1:
		return usagef("no peer of %s given", args[0])
	}
	return checkInterface(args[0])
}

// checkInterface allows what Linux allows (dev_valid_name), so that a name is always a path's last element.
func checkInterface(name string) error {
	if name == "" || len(name) > 15 || name == "." || name == ".." || strings.ContainsAny(name, "/: \t\n\v\f\r") {
		return usagef("%q cannot be an interface: a name has 1 to 15 bytes and no '/', ':' or blanks", name)
	}
	return nil
}

// choice is a flag whose value is one of a few words.
type choice struct {
	value string
	words []string
}

func (c *choice) String() string { return c.value }

func (c *choice) Set(value string) error {
	if !slices.Contains(c.words, value) {
		return fmt.Errorf("must be %s", strings.Join(c.words, " or "))
	}
	c.value = value
	return nil
}

func (c *choice) Type() string { return strings.Join(c.words, "|") }

// choices is a flag that is repeated, or given several words with commas.
type choices struct {
	values []string
	words  []string
}

func (c *choices) String() string { return strings.Join(c.values, ",") }

func (c *choices) Set(text string) error {
	for value := range strings.SplitSeq(text, ",") {
		one := choice{words: c.words}
		if err := one.Set(value); err != nil {
			return err
		}
		c.values = append(c.values, value)
	}
	return nil
}

func (c *choices) Type() string { return strings.Join(c.words, "|") }

// names is a flag that is repeated, or given several names with commas. It is a [pflag.SliceValue].
type names struct{ values *[]string }

func (n names) String() string { return strings.Join(*n.values, ",") }

func (n names) Set(text string) error {
	if text == "" {
		return nil
	}
	for name := range strings.SplitSeq(text, ",") {
		*n.values = append(*n.values, strings.TrimSpace(name))
	}
	return nil
}

func (names) Type() string { return "names" }

func (n names) Append(name string) error      { return n.Set(name) }
func (n names) Replace(values []string) error { *n.values = values; return nil }
func (n names) GetSlice() []string            { return *n.values }

// duration is a flag whose value has a least one.
type duration struct {
	value *time.Duration
	least time.Duration
	never bool // 0 is never, and allowed
}

func (d duration) String() string { return view.TrimDuration(d.value.String()) }

func (d duration) Set(text string) error {
	value, err := time.ParseDuration(text)
	if err != nil || value < d.least && !(d.never && value == 0) {
		text := "must be %s or longer, such as 90s, 15m or 1h30m"
		if d.never {
			text = "must be %s or longer, such as 15m or 1h30m, or 0 for never"
		}
		return fmt.Errorf(text, view.TrimDuration(d.least.String()))
	}
	*d.value = value
	return nil
}

func (duration) Type() string { return "duration" }

// count is a flag whose value is a whole number from 1.
type count struct{ value *int }

func (c count) String() string { return strconv.Itoa(*c.value) }

func (c count) Set(text string) error {
	value, err := strconv.Atoi(text)
	if err != nil || value < 1 {
		return errors.New("must be a whole number, 1 or more")
	}
	*c.value = value
	return nil
}

func (count) Type() string { return "number" }

// rate is a flag whose value is a number of times a second.
type rate struct{ value *float64 }

func (r rate) String() string { return strconv.FormatFloat(*r.value, 'g', -1, 64) }

func (r rate) Set(text string) error {
	value, err := strconv.ParseFloat(text, 64)
	if err != nil || !(value >= 0) || math.IsInf(value, 0) {
		return errors.New("must be a number, 0 or more")
	}
	*r.value = value
	return nil
}

func (rate) Type() string { return "number" }

// address is a flag whose value is host:port, or empty.
type address struct{ value *string }

func (a address) String() string { return *a.value }

func (a address) Set(text string) error {
	_, port, err := net.SplitHostPort(text)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil && text != "" {
		return errors.New("must be host:port, such as localhost:9586")
	}
	*a.value = text
	return nil
}

func (address) Type() string { return "address" }

// socketPath is a flag whose value is where a daemon listens; empty: at its interface's own path.
type socketPath struct{ value *string }

func (p socketPath) String() string { return *p.value }

func (p socketPath) Set(text string) error {
	if text != "" {
		if err := control.CheckPath(text); err != nil {
			return err
		}
	}
	*p.value = text
	return nil
}

func (socketPath) Type() string { return "path" }

// group is a flag whose value is a group of users.
type group struct{ value *server.Group }

func (g group) String() string { return g.value.String() }

func (g group) Set(text string) (err error) {
	*g.value, err = server.ParseGroup(text)
	return err
}

func (group) Type() string { return "number" } // or text

// outputFlag is -o: the first of the formats is the default.
func outputFlag(cmd *cobra.Command, formats ...string) *choice {
	output := &choice{value: formats[0], words: formats}
	cmd.Flags().VarP(output, "output", "o", "how to print")
	return output
}

// controlFlag is --control, for [socket].
func controlFlag(cmd *cobra.Command) *string {
	path := new(string)
	cmd.Flags().Var(socketPath{path}, "control", "`PATH` of the daemon's socket (default \""+control.Path("IFACE")+"\")")
	return path
}

// socket is where the daemon of an interface listens, unless --control says otherwise.
func socket(iface, override string) string {
	if override != "" {
		return override
	}
	return control.Path(iface)
}
