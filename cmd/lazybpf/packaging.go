// SPDX-License-Identifier: Apache-2.0

//go:build packaging

package main

// With the tag packaging the program does not come to main: it writes what a
// package of lazybpf has beside the binary and can be made from the commands.
// What it takes to make man pages stays out of lazybpf this way.

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func init() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: go run -tags packaging ./cmd/lazybpf DIR [PAGE.md...]")
		os.Exit(exitUsage)
	}
	if err := writeAll(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitFailed)
	}
	os.Exit(exitDone)
}

// writeAll fills dir with a man page of each command, those of pages, which are
// Markdown, and the completion scripts under the names that shells look for.
func writeAll(dir string, pages []string) error {
	man, completion := filepath.Join(dir, "man"), filepath.Join(dir, "completion")
	for _, d := range []string{man, completion} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	root := newRootCommand()
	texts := map[string]string{"lazybpf.8": manPage(root)}
	for _, cmd := range root.Commands() {
		texts[pageOf(cmd)+".8"] = manPage(cmd)
	}
	for _, path := range pages {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		texts[strings.TrimSuffix(filepath.Base(path), ".md")] = string(text)
	}
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(man, name), md2man.Render([]byte(text)), 0o644); err != nil {
			return err
		}
	}
	for name, generate := range map[string]func(string) error{
		"lazybpf":      func(path string) error { return root.GenBashCompletionFileV2(path, true) },
		"_lazybpf":     root.GenZshCompletionFile,
		"lazybpf.fish": func(path string) error { return root.GenFishCompletionFile(path, true) },
	} {
		if err := generate(filepath.Join(completion, name)); err != nil {
			return err
		}
	}
	return nil
}

// pageOf is the name of a command's man page: lazybpf-run.
func pageOf(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// manPage is what help says of a command, as a man page in Markdown.
func manPage(cmd *cobra.Command) string {
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	var b strings.Builder
	fmt.Fprintf(&b, "%s 8 \"\" lazybpf\n===\n\n# NAME\n\n%s - %s\n\n", pageOf(cmd), pageOf(cmd), cmd.Short)
	synopsis := cmd.UseLine()
	if cmd.HasSubCommands() {
		synopsis += " COMMAND"
	}
	fmt.Fprintf(&b, "# SYNOPSIS\n\n**%s**\n\n", synopsis)
	if cmd.Long != "" {
		fmt.Fprintf(&b, "# DESCRIPTION\n\n%s\n\n", cmd.Long)
	}
	seeAlso := []string{"**lazybpf**(8)", "**lazybpf.toml**(5)", "**wg**(8)"}
	if cmd.HasSubCommands() {
		b.WriteString("# COMMANDS\n\n")
		seeAlso = seeAlso[1:]
	}
	for _, sub := range cmd.Commands() {
		fmt.Fprintf(&b, "**%s**(8)\n: %s\n\n", pageOf(sub), sub.Short)
	}
	b.WriteString("# OPTIONS\n\n")
	cmd.Flags().VisitAll(func(f *pflag.Flag) { b.WriteString(option(f)) })
	if cmd.Example != "" {
		fmt.Fprintf(&b, "# EXAMPLES\n\n```\n%s\n```\n\n", cmd.Example)
	}
	fmt.Fprintf(&b, "# SEE ALSO\n\n%s\n", strings.Join(seeAlso, ", "))
	return b.String()
}

// option is a flag as one item of a list.
func option(f *pflag.Flag) string {
	value, usage := pflag.UnquoteUsage(f)
	name := "**--" + f.Name + "**"
	if f.Shorthand != "" {
		name = "**-" + f.Shorthand + "**, " + name
	}
	switch {
	case f.NoOptDefVal != "": // needs no value
	case value != "":
		name += " *" + value + "*"
	}
	if f.DefValue != "" && f.DefValue != "[]" && f.NoOptDefVal == "" {
		usage += " (default " + f.DefValue + ")"
	}
	return fmt.Sprintf("%s\n: %s\n\n", name, usage)
}
