// SPDX-License-Identifier: Apache-2.0

package main

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lazybpf/lazybpf/internal/control"
)

func newCompletionCommand() *cobra.Command {
	shells := []string{"bash", "fish", "zsh"}
	return &cobra.Command{
		Use:   "completion bash|fish|zsh",
		Short: "Write the script that completes lazybpf's commands in a shell",
		Example: `  source <(lazybpf completion bash)
  lazybpf completion fish | source`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || !slices.Contains(shells, args[0]) {
				return usagef("name a shell: %s", strings.Join(shells, " or "))
			}
			return noArgs(cmd, args[1:])
		},
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "fish":
				return root.GenFishCompletion(out, true)
			default:
				return root.GenZshCompletion(out)
			}
		},
	}
}

// completeInterface offers the interfaces that are managed, by their sockets.
func completeInterface(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	if len(args) == 0 {
		paths, _ := filepath.Glob(control.Path("*"))
		for _, path := range paths {
			names = append(names, strings.TrimSuffix(filepath.Base(path), ".sock"))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
