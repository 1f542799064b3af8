// SPDX-License-Identifier: Apache-2.0

// Package config sets a command's flags from the environment and a file: a
// flag that was given beats the environment, which beats the file. The file
// has what no flag can say, too: what is to be done with each peer.
package config

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"
)

// Variable is the environment's name of a flag: LAZYBPF_MAX_OPENS for max-opens.
func Variable(flag string) string {
	return "LAZYBPF_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// FromEnvironment sets the flags that were not given and have a variable. A
// flag that can be repeated takes several values with commas between them.
func FromEnvironment(flags *pflag.FlagSet) error {
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		value, ok := os.LookupEnv(Variable(f.Name))
		if !ok || f.Changed {
			return
		}
		if err := flags.Set(f.Name, value); err != nil {
			errs = append(errs, fmt.Errorf("environment: %s=%q: %w", Variable(f.Name), value, errors.Unwrap(err)))
		}
	})
	return errors.Join(errs...)
}

// UnknownVariables are those of the environment that look like options, and are
// none.
func UnknownVariables(flags *pflag.FlagSet) []string {
	known := make(map[string]bool)
	flags.VisitAll(func(f *pflag.Flag) { known[Variable(f.Name)] = true })
	var unknown []string
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, Variable("")) && !known[name] {
			unknown = append(unknown, name)
		}
	}
	return unknown
}

// set sets a flag to a value of a file: true or false, text, a whole number
// where the flag is neither, or a list where it can be repeated.
func set(flags *pflag.FlagSet, name string, value any) error {
	f := flags.Lookup(name)
	_, repeats := f.Value.(pflag.SliceValue)
	list, ok := value.([]any)
	switch {
	case !ok:
		list = []any{value}
	case !repeats:
		return errors.New("must be one value, not a list")
	}
	for _, element := range list {
		if err := fits(f, element); err != nil {
			return err
		}
		if err := flags.Set(name, fmt.Sprint(element)); err != nil {
			return errors.Unwrap(err)
		}
	}
	return nil
}

// fits says whether a value of a file is of a type that a flag takes.
func fits(f *pflag.Flag, value any) error {
	want := "text in quotes"
	_, good := value.(string)
	switch f.Value.Type() {
	case "bool":
		want = "true or false, without quotes"
		_, good = value.(bool)
	case "int", "number":
		want += ", or a number"
		_, whole := value.(int64)
		_, broken := value.(float64)
		good = good || whole || broken
	}
	if !good {
		return errors.New("must be " + want)
	}
	return nil
}
