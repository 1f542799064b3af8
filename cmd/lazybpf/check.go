// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lazybpf/lazybpf/internal/daemon"
	"github.com/lazybpf/lazybpf/internal/view"
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
		findings := daemon.Check(first(args), *bpffs)
		table := view.Fit([]view.Column[daemon.Finding]{
			{Cell: func(f daemon.Finding, _ int) string { return string(f.Verdict) }},
			{Cell: func(f daemon.Finding, _ int) string { return f.Name }},
			{Cell: func(f daemon.Finding, _ int) string { return f.Detail }},
		}, findings, 0)
		runs := true
		for _, f := range findings {
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), table.Row(f)); err != nil {
				return err
			}
			runs = runs && f.Verdict != daemon.Missing
		}
		if !runs {
			return errors.New("cannot run here: see the lines that say missing")
		}
		return nil
	}
	return cmd
}
