// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// newFlags are one flag of each type, as a command would have.
func newFlags() *pflag.FlagSet {
	flags := pflag.NewFlagSet("run", pflag.ContinueOnError)
	flags.String("config", "", "")
	flags.Duration("open-timeout", 0, "")
	flags.Int("max-opens", 0, "")
	flags.String("control", "", "")
	flags.StringSlice("exclude", nil, "")
	flags.Bool("loud", false, "")
	return flags
}

// keys are those of the flags that may stand in a file.
var keys = []string{"control", "exclude", "loud", "max-opens", "open-timeout"}

// fromFile is FromFile without the policy.
func fromFile(flags *pflag.FlagSet, path string) error {
	_, err := FromFile(flags, path, keys)
	return err
}

// values are what the flags have been set to, like "control=/run/x max-opens=3".
func values(flags *pflag.FlagSet) string {
	var set []string
	flags.Visit(func(f *pflag.Flag) { set = append(set, f.Name+"="+f.Value.String()) })
	return strings.Join(set, " ")
}

// file writes a configuration file.
func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "wg0.toml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPrecedence(t *testing.T) {
	for _, test := range []struct{ flags, environment, file, want string }{
		{"", "", "", ""},
		{"", "", "max-opens = 3", "max-opens=3"},
		{"", "2", "max-opens = 3", "max-opens=2"},
		{"--max-opens=1", "2", "max-opens = 3", "max-opens=1"},
		{"--max-opens=1", "", "max-opens = 3", "max-opens=1"},
		{"--max-opens=0", "2", "max-opens = 3", "max-opens=0"}, // given, if only the default
		{"", "2", "open-timeout = '3s'", "max-opens=2 open-timeout=3s"},
		// What is not asked need not be right.
		{"--max-opens=1", "many", "max-opens = 'many'", "max-opens=1"},
		{"", "2", "max-opens = 'many'", "max-opens=2"},
	} {
		t.Run("", func(t *testing.T) {
			if test.environment != "" {
				t.Setenv("LAZYBPF_MAX_OPENS", test.environment)
			}
			flags := newFlags()
			err := errors.Join(flags.Parse(strings.Fields(test.flags)), FromEnvironment(flags), fromFile(flags, file(t, test.file)))
			if got := values(flags); got != test.want || err != nil {
				t.Errorf("%+v: set to %q, %v", test, got, err)
			}
		})
	}
}

// TestListsAreReplaced has a list in two places: they are not added up.
func TestListsAreReplaced(t *testing.T) {
	t.Setenv("LAZYBPF_EXCLUDE", "b,c")
	flags := newFlags()
	if err := errors.Join(FromEnvironment(flags), fromFile(flags, file(t, "exclude = ['d']"))); err != nil {
		t.Fatal(err)
	}
	if got := values(flags); got != "exclude=[b,c]" {
		t.Errorf("set to %q", got)
	}
}

func TestFile(t *testing.T) {
	for content, want := range map[string]string{
		"# nothing\n":            "",
		"control = '/run/x'":     "control=/run/x",
		"control = ''":           "control=",
		"max-opens = 3":          "max-opens=3",
		"loud = true":            "loud=true",
		"max-opens = '3'":        "max-opens=3",
		"open-timeout = '1m30s'": "open-timeout=1m30s",
		"exclude = []":           "",
		"exclude = 'a'":          "exclude=[a]",
		"exclude = ['a']":        "exclude=[a]",
		"exclude = [\n  'a', # the office\n  'fd00::1',\n]": "exclude=[a,fd00::1]",
		"'max-opens' = 3\ncontrol = \"/run/x\"":             "control=/run/x max-opens=3",
	} {
		flags := newFlags()
		err := fromFile(flags, file(t, content))
		if got := values(flags); got != want || err != nil {
			t.Errorf("%s: set to %q, %v; want %q", content, got, err, want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	for name, test := range map[string]struct{ value, want string }{
		"LAZYBPF_MAX_OPENS":    {"3", "max-opens=3"},
		"LAZYBPF_OPEN_TIMEOUT": {"1m30s", "open-timeout=1m30s"},
		"LAZYBPF_EXCLUDE":      {"a,fd00::1", "exclude=[a,fd00::1]"},
		"LAZYBPF_CONTROL":      {"", "control="},
		"LAZYBPF_UNKNOWN":      {"3", ""}, // perhaps another program's
		"lazybpf_max_opens":    {"3", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, test.value)
			flags := newFlags()
			if err := FromEnvironment(flags); err != nil || values(flags) != test.want {
				t.Errorf("%s=%s: set to %q, %v; want %q", name, test.value, values(flags), err, test.want)
			}
		})
	}
}

// TestFileIsWrong: one line that names the file, and the place or the key.
func TestFileIsWrong(t *testing.T) {
	const text = "must be text in quotes"
	for content, want := range map[string]string{
		"max-open = 3": `FILE:1: unknown key max-open: there are control, exclude, loud, max-opens, open-timeout, peers, rules`,
		"config = 'x'": `FILE:1: unknown key config: there are control, exclude, loud, max-opens, open-timeout, peers, rules`,
		"[[rules]]\neffect = 'ignored'\nmax-opens = 3": `FILE:3: unknown key rules.max-opens: keys of the interface come before the first [table]`,
		"[wg0]\nmax-opens = 3":                         `FILE:1: unknown key wg0: there are control, exclude, loud, max-opens, open-timeout, peers, rules`,
		"b = 1\na = 1":                                 `FILE:1: unknown key b: there are control, exclude, loud, max-opens, open-timeout, peers, rules`,
		"max-opens = 'many'":                           `FILE:1: max-opens = "many": must be an integer`,
		"open-timeout = 30":                            "FILE:1: open-timeout = 30: " + text,
		"open-timeout = 'soon'":                        `FILE:1: open-timeout = "soon": must be a duration like "30s" or "5m"`,
		"max-opens = 3.5":                              "FILE:1: max-opens = 3.5: must be an integer",
		"max-opens = true":                             "FILE:1: max-opens = true: " + text + ", or a number",
		"loud = 'true'":                                `FILE:1: loud = "true": must be true or false, without quotes`,
		"[[peers.a]]":                                  `FILE:1: must be tables as lazybpf.toml(5) has them`,
		"max-opens = [3, 4]":                           "FILE:1: max-opens = [3 4]: must be one value, not a list",
		"control = 3":                                  "FILE:1: control = 3: " + text,
		"control = false":                              "FILE:1: control = false: " + text,
		"control = 2026-01-02":                         "FILE:1: control = 2026-01-02: " + text,
		"control = {path = '/run/x'}":                  "FILE:1: control = map[path:/run/x]: " + text,
		"exclude = 3":                                  "FILE:1: exclude = 3: " + text,
		"exclude = ['a', 3]":                           "FILE:1: exclude = [a 3]: " + text,
		"exclude = [['a']]":                            "FILE:1: exclude = [[a]]: " + text,
		"max-opens = 3\ncontrol = /run/x\n":            "FILE:2:11: ",
		"max-opens = 3\nmax-opens = 4\n":               "FILE:2:1: ",
		"\n  control 3":                                "FILE:2:11: ",
		"max-opens = 99999999999999999999":             "FILE:1:13: ",
		"exclude = ['a',\n  'b'\ncontrol = 1":          "FILE:3:1: ",
	} {
		wantError(t, content, want)
	}
}

// wantError fails the test unless a file of this content gives an error of one line that begins so.
func wantError(t *testing.T, content, want string) {
	t.Helper()
	path := file(t, content)
	err := fromFile(newFlags(), path)
	if err == nil {
		t.Errorf("%s: no error", content)
		return
	}
	got := strings.ReplaceAll(err.Error(), path, "FILE")
	if !strings.HasPrefix(got, "configuration: "+want) || strings.Contains(got, "\n") {
		t.Errorf("%s:\ngot  %s\nwant configuration: %s", content, got, want)
	}
}

func TestFileCannotBeRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wg0.toml")
	if err := fromFile(newFlags(), path); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v, want one that says that %s does not exist", err, path)
	}
}

func TestEnvironmentIsWrong(t *testing.T) {
	t.Setenv("LAZYBPF_MAX_OPENS", "many")
	t.Setenv("LAZYBPF_CONTROL", "/run/x")
	t.Setenv("LAZYBPF_OPEN_TIMEOUT", "")
	flags := newFlags()
	err := FromEnvironment(flags)
	want := `environment: LAZYBPF_MAX_OPENS="many": must be an integer` + "\n" +
		`environment: LAZYBPF_OPEN_TIMEOUT="": must be a duration like "30s" or "5m"`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	if got := values(flags); got != "control=/run/x" {
		t.Errorf("set to %q", got)
	}
}
