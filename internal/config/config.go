// SPDX-License-Identifier: Apache-2.0

// Package config sets a command's flags from the environment and a file: a
// flag that was given beats the environment, which beats the file.
package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
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

// FromFile sets the flags that neither were given nor had a variable. The file
// is TOML, its keys are the names of those flags that may stand in it.
func FromFile(flags *pflag.FlagSet, path string, keys []string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	var values map[string]any
	if err := toml.Unmarshal(content, &values); err != nil {
		var at *toml.DecodeError
		if errors.As(err, &at) {
			row, column := at.Position()
			return fmt.Errorf("configuration: %s:%d:%d: %w", path, row, column, err)
		}
		return fmt.Errorf("configuration: %s: %w", path, err)
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if !slices.Contains(keys, key) {
			return fmt.Errorf("configuration: %s: unknown key %q: there are %s", path, key, strings.Join(keys, ", "))
		}
		if flags.Changed(key) {
			continue
		}
		if err := set(flags, key, values[key]); err != nil {
			return fmt.Errorf("configuration: %s: %s = %v: %w", path, key, values[key], err)
		}
	}
	return nil
}

// set sets a flag to a value of a file: text, a whole number where the flag is
// not text, or a list where it can be repeated.
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
		_, text := element.(string)
		_, number := element.(int64)
		takesNumber := !repeats && f.Value.Type() != "string"
		switch {
		case takesNumber && !text && !number:
			return errors.New("must be text in quotes, or a whole number")
		case !takesNumber && !text:
			return errors.New("must be text in quotes")
		}
		if err := flags.Set(name, fmt.Sprint(element)); err != nil {
			return errors.Unwrap(err)
		}
	}
	return nil
}
