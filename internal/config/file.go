// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/pflag"
)

// FromFile sets the flags that neither were given nor had a variable, and
// returns what else the file says. The file is TOML; beside the keys of Policy
// it may have the names of these flags. An error names the file, the line and
// the key, and what is accepted there.
func FromFile(flags *pflag.FlagSet, path string, names []string) (Policy, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return Policy{}, fmt.Errorf("configuration: %w", err)
	}
	f := source{path: path, content: content, lines: make(map[string]int)}
	policy, err := f.policy(names)
	if err == nil {
		err = f.flags(flags)
	}
	if err == nil && policy.hooks() {
		err = f.trusted()
	}
	if err != nil {
		return Policy{}, fmt.Errorf("configuration: %w", err)
	}
	return policy, nil
}

// source is a configuration file that is being read.
type source struct {
	path    string
	content []byte
	lines   map[string]int // of the flags in it
}

// policy reads all but the flags, whose lines it notes.
func (f source) policy(names []string) (Policy, error) {
	var d document
	decoder := toml.NewDecoder(bytes.NewReader(f.content)).DisallowUnknownFields()
	err := decoder.Decode(&d)
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) {
		for _, e := range unknown.Errors {
			line, _ := e.Position()
			key := e.Key()
			if len(key) != 1 || !slices.Contains(names, key[0]) {
				return Policy{}, f.unknown(line, key, names)
			}
			f.lines[key[0]] = line
		}
	} else if err != nil {
		return Policy{}, f.explain(err)
	}
	policy, err := d.policy()
	var at *keyError
	if errors.As(err, &at) {
		return Policy{}, fmt.Errorf("%s:%d: %w", f.path, f.line(at.key), err)
	}
	return policy, err
}

// explain says where the file is no TOML, or has a value of another type.
func (f source) explain(err error) error {
	var at *toml.DecodeError
	if !errors.As(err, &at) {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	line, column := at.Position()
	if strings.HasPrefix(at.Error(), "toml: cannot store ") { // a table or a list of them, where none can be
		return fmt.Errorf("%s:%d: must be %s", f.path, line, wanted(reflect.TypeFor[document](), nil))
	}
	if strings.HasPrefix(at.Error(), "toml: cannot decode TOML ") { // the rest of it is Go's names
		return fmt.Errorf("%s:%d: %s: must be %s", f.path, line, dotted(at.Key()), wanted(reflect.TypeFor[document](), at.Key()))
	}
	return fmt.Errorf("%s:%d:%d: %s", f.path, line, column, strings.TrimPrefix(at.Error(), "toml: "))
}

// wanted is what a key takes that stands in a part of the file.
func wanted(part reflect.Type, key []string) string {
	for _, name := range key {
		if part.Kind() == reflect.Slice {
			part = part.Elem()
		}
		switch part.Kind() {
		case reflect.Map:
			part = part.Elem()
		case reflect.Struct:
			i := slices.IndexFunc(fieldsOf(part), func(key string) bool { return strings.EqualFold(key, name) })
			if i < 0 {
				return "of another type"
			}
			part = part.Field(i).Type
		}
	}
	switch part {
	case reflect.TypeFor[string]():
		return "text in quotes"
	case reflect.TypeFor[bool]():
		return "true or false, without quotes"
	case reflect.TypeFor[[]string]():
		return "a list of texts in quotes"
	}
	return "tables as lazybpf.toml(5) has them"
}

// unknown says which keys there are where somebody wrote another.
func (f source) unknown(line int, key []string, names []string) error {
	known := append(fields(document{}), names...)
	switch {
	case len(key) > 1 && slices.Contains(names, key[len(key)-1]):
		return fmt.Errorf("%s:%d: unknown key %s: keys of the interface come before the first [table]", f.path, line, dotted(key))
	case slices.Contains(key[:len(key)-1], "rules"):
		known = fields(rule{})
	case key[0] == "peers" && len(key) > 2:
		known = fields(peer{})
	}
	slices.Sort(known)
	return fmt.Errorf("%s:%d: unknown key %s: there are %s", f.path, line, dotted(key), strings.Join(known, ", "))
}

// flags sets the flags that stand in the file.
func (f source) flags(flags *pflag.FlagSet) error {
	var values map[string]any
	if err := toml.Unmarshal(f.content, &values); err != nil {
		return f.explain(err)
	}
	for _, name := range slices.Sorted(maps.Keys(f.lines)) {
		if flags.Changed(name) {
			continue
		}
		if err := set(flags, name, values[name]); err != nil {
			return fmt.Errorf("%s:%d: %s = %s: %w", f.path, f.lines[name], name, written(values[name]), err)
		}
	}
	return nil
}

// written is a value as it stands in a file, more or less.
func written(value any) string {
	if text, ok := value.(string); ok {
		return strconv.Quote(text)
	}
	return fmt.Sprint(value)
}

// trusted makes sure that nobody but root says what root runs.
func (f source) trusted() error {
	info, err := os.Stat(f.path)
	if err != nil {
		return err
	}
	if !rootOnly(info) {
		return fmt.Errorf("%s: names a hook, which runs as root, and others than root may write to it: chown root and chmod go-w the file", f.path)
	}
	return nil
}

// rootOnly says whether only root can write to a file.
func rootOnly(info os.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Uid == 0 && info.Mode().Perm()&0o022 == 0
}
