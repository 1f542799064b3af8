// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lazybpf/lazybpf/pkg/control"
)

func newReloadCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reload IFACE",
		Short: "Have a daemon read its configuration file again",
		Long: `Have the daemon of an interface read its configuration file again. It takes the new settings whole, or not at all and
says what is wrong with them; peers whose settings are the same are not touched. Flags and variables that the daemon was
started with still beat the file.`,
		Example:           "  lazybpf reload wg0",
		Args:              oneInterface,
		ValidArgsFunction: completeInterface,
	}
	path := controlFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := control.NewClient(socket(args[0], *path)).Reload(cmd.Context()); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s: reloaded\n", args[0])
		return nil
	}
	return cmd
}
