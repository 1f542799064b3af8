// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/lazybpf/lazybpf/internal/config"
)

const (
	repository  = "../.."
	manPageFile = repository + "/packaging/lazybpf.toml.5.md"
	optionsFile = repository + "/docs/options.md"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestDocsHaveOptions: the man page and docs/options.md have every flag and every key.
func TestDocsHaveOptions(t *testing.T) {
	man, options := read(t, manPageFile), read(t, optionsFile)
	keys := config.Keys()
	newRunCommand().Flags().VisitAll(func(f *pflag.Flag) {
		if !strings.Contains(options, "| `"+f.Name+"` |") {
			t.Errorf("docs/options.md does not explain --%s", f.Name)
		}
	})
	newSettings().flags.VisitAll(func(f *pflag.Flag) {
		if !strings.Contains(options, "`"+config.Variable(f.Name)+"`") {
			t.Errorf("docs/options.md does not name %s", config.Variable(f.Name))
		}
		if f.Name != "config" {
			keys = append(keys, f.Name)
		}
	})
	for _, key := range keys {
		if !strings.Contains(man, "**"+key+"**") && !strings.Contains(man, "**["+key+".") && !strings.Contains(man, "**[["+key+"]]**") {
			t.Errorf("lazybpf.toml(5) does not explain %s", key)
		}
		if !strings.Contains(options, "| `"+key+"` |") && !strings.Contains(options, "["+key) {
			t.Errorf("docs/options.md does not explain %s", key)
		}
	}
}

// TestDocsHaveFixedOptions: what a reload refuses to change, the pages say that it cannot change.
func TestDocsHaveFixedOptions(t *testing.T) {
	fixed := regexp.MustCompile(`"([a-z-]+): %w", errFixed`).FindAllStringSubmatch(code(t), -1)
	if len(fixed) == 0 {
		t.Fatal("no option is fixed")
	}
	for page, says := range map[string]string{
		manPageFile:                             `(?s)If the file is bad.*?cannot change while`,
		optionsFile:                             "all else, all tables and rules.*",
		repository + "/docs/troubleshooting.md": "cannot change while lazybpf runs.*",
	} {
		place := regexp.MustCompile(says).FindString(read(t, page))
		for _, m := range fixed {
			if !regexp.MustCompile("[`*]" + m[1] + "[`*]").MatchString(place) {
				t.Errorf("%s does not say that %s cannot change", page, m[1])
			}
		}
	}
}

// TestWarnings: docs/troubleshooting.md explains what the daemon warns of.
func TestWarnings(t *testing.T) {
	page := read(t, repository+"/docs/troubleshooting.md")
	warnings := regexp.MustCompile(`\.(?:Warn|Error)\("([^"]+)"\)`).FindAllStringSubmatch(code(t), -1)
	if len(warnings) < 5 {
		t.Fatalf("%d warnings", len(warnings))
	}
	for _, m := range warnings {
		if !strings.Contains(page, "`"+m[1]+"`") {
			t.Errorf("docs/troubleshooting.md does not explain %q", m[1])
		}
	}
}

// code is all Go that is not of tests.
func code(t *testing.T) string {
	t.Helper()
	var code strings.Builder
	for _, dir := range []string{"cmd", "internal", "pkg"} {
		err := filepath.WalkDir(filepath.Join(repository, dir), func(path string, _ fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
				code.WriteString(read(t, path))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return code.String()
}

// TestMessages: what docs/troubleshooting.md quotes in the first column of its tables, the code can say.
func TestMessages(t *testing.T) {
	code := code(t)
	_, messages, found := strings.Cut(read(t, repository+"/docs/troubleshooting.md"), "\n# Messages\n")
	rows := regexp.MustCompile("(?m)^\\| ([^|]*`[^|]*) \\|").FindAllStringSubmatch(messages, -1)
	if !found || len(rows) < 50 {
		t.Fatalf("%d messages", len(rows))
	}
	for _, row := range rows {
		for _, quoted := range regexp.MustCompile("`[^`]*`").FindAllString(row[1], -1) {
			for _, part := range regexp.MustCompile(`…|: `).Split(quoted, -1) {
				if part = strings.Trim(part, "` :,;"); !strings.Contains(code, part) {
					t.Errorf("nothing says %q, of %s", part, row[1])
				}
			}
		}
	}
}

// TestLinks: the files that README.md and docs/ point to are there, and the headings.
func TestLinks(t *testing.T) {
	pages, err := filepath.Glob(repository + "/docs/*.md")
	if err != nil || len(pages) < 5 {
		t.Fatal(pages, err)
	}
	link := regexp.MustCompile(`\]\(([^)#:]*)(?:#([^)]*))?\)`)
	for _, page := range append(pages, repository+"/README.md") {
		for _, m := range link.FindAllStringSubmatch(read(t, page), -1) {
			target := page
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(page), m[1])
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %v", page, err)
			} else if m[2] != "" && !slices.Contains(anchors(read(t, target)), m[2]) {
				t.Errorf("%s: %s has no heading #%s", page, target, m[2])
			}
		}
	}
}

// anchors are the headings of a page of Markdown, as links name them.
func anchors(text string) (names []string) {
	other := regexp.MustCompile(`[^\w -]`)
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		names = append(names, strings.ReplaceAll(other.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	return names
}
