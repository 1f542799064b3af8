// SPDX-License-Identifier: Apache-2.0

package main

import "github.com/spf13/cobra"

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "lazybpf",
		Short: "Keep WireGuard peers dormant until a packet needs them",
		Long: `lazybpf keeps every peer of a WireGuard interface dormant until a packet needs it, and puts it
back to sleep when traffic stops. A peer is named by its public key, a unique prefix of one (at
least 4 characters), an address inside its allowed IPs, or a name of the configuration file.

The exit code is 0, or 1 if it failed, or 2 for wrong usage. What was wrong is then one line on standard error.`,
		Example: `  lazybpf status
  lazybpf top wg0
  lazybpf events wg0
  lazybpf wake wg0 10.0.0.2`,
		Version:                    buildVersion(),
		Args:                       noSuchCommand,
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		DisableFlagsInUseLine:      true,
		SilenceErrors:              true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: 2,
		CompletionOptions:          cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.SetHelpCommand(newHelpCommand())
	root.SetHelpFunc(writeHelp)
	root.AddCommand(
		newRunCommand(),
		newStatusCommand(),
		newTopCommand(),
		newEventsCommand(),
		newWakeCommand(),
		newSleepCommand(),
		newExcludeCommand(),
		newIncludeCommand(),
		newReloadCommand(),
		newRestoreCommand(),
		newCheckCommand(),
		newDemoCommand(),
		newCompletionCommand(),
		newVersionCommand(),
	)
	completeChoices(root)
	return root
}
