// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/lazybpf/lazybpf/internal/daemon"
)

func newCheckCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [IFACE]",
		Short: "Say what this machine can do",
		Long: `Say line by line what this kernel and machine can do: ok, degraded (and how), or missing (and what to
do). With an interface, say also whether its peers could be managed. Nothing is changed.`,
		Example: `  lazybpf check
  lazybpf check wg0`,
		Args:              optionalInterface,
		ValidArgsFunction: completeInterface,
	}
	bpffs := cmd.Flags().String("bpffs", defaultBPFFS, "`DIR` of the bpffs to pin maps in; empty: none")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		runs := true
		for _, f := range daemon.Check(first(args), *bpffs) {
			fmt.Fprintf(table, "%s\t%s\t%s\n", f.Verdict, f.Name, f.Detail)
			runs = runs && f.Verdict != daemon.Missing
		}
		if err := table.Flush(); err != nil {
			return err
		}
		if !runs {
			return errors.New("cannot run here: see the lines that say missing")
		}
		return nil
	}
	return cmd
}
