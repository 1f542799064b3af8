// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lazybpf/lazybpf/internal/view"
)

// helpWidth is that of help which is not for a terminal.
const helpWidth = 80

func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "Explain a command",
		Example: "  lazybpf help status",

		ValidArgsFunction: completeCommand,
		RunE: func(cmd *cobra.Command, args []string) error {
			target, rest, err := cmd.Root().Find(args)
			if err != nil {
				return usageError{err}
			}
			if len(rest) > 0 {
				return noSuchCommand(target, rest)
			}
			target.InitDefaultHelpFlag() // --help would have
			target.InitDefaultVersionFlag()
			return target.Help()
		},
	}
}

// writeHelp explains a command in as many columns as the terminal has.
func writeHelp(cmd *cobra.Command, _ []string) {
	out := cmd.OutOrStdout()
	width, _, terminal := view.Terminal(out)
	if !terminal {
		width = helpWidth
	}
	sections := strings.Split(cmp.Or(cmd.Long, cmd.Short), "\n\n")
	for i, paragraph := range sections {
		sections[i] = strings.Join(view.Wrap(strings.Join(strings.Fields(paragraph), " "), width), "\n")
	}
	usage := cmd.UseLine()
	if cmd.HasSubCommands() {
		usage += " COMMAND"
	}
	sections = append(sections, "Usage:\n  "+usage)
	if cmd.Example != "" {
		sections = append(sections, "Examples:\n"+cmd.Example)
	}
	if cmd.HasSubCommands() {
		sections = append(sections, "Commands:\n"+commandList(cmd, width))
	}
	// To say that a flag takes true or false explains nothing.
	flags := strings.ReplaceAll(cmd.LocalFlags().FlagUsagesWrapped(width), "[=true|false]", "             ")
	sections = append(sections, "Flags:\n"+strings.TrimRight(flags, "\n"))
	fmt.Fprintln(out, strings.Join(sections, "\n\n"))
}

// commandList has a line for each command, or as many as it takes.
func commandList(cmd *cobra.Command, width int) string {
	var lines []string
	indent := cmd.NamePadding() + 4
	for _, sub := range cmd.Commands() {
		for i, text := range view.Wrap(sub.Short, max(width-indent, 1)) {
			name := ""
			if i == 0 {
				name = sub.Name()
			}
			lines = append(lines, fmt.Sprintf("  %-*s%s", indent-2, name, text))
		}
	}
	return strings.Join(lines, "\n")
}
