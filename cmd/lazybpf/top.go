// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/lazybpf/lazybpf/internal/top"
	"github.com/lazybpf/lazybpf/internal/view"
	"github.com/lazybpf/lazybpf/pkg/control"
)

func newTopCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "top IFACE",
		Short: "Watch the peers live: traffic, wakes and why; wake them and let them sleep",
		Long: `Show the peers of an interface live on a terminal: what they send and receive, who sleeps, who wakes, why and how fast.
The most recently active come first. Press ? for the keys: they sort and filter peers, and wake, sleep, exclude and
include the one that is selected. Looking changes nothing.`,
		Example:           "  lazybpf top wg0",
		Args:              oneInterface,
		ValidArgsFunction: completeInterface,
	}
	override := controlFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if _, _, terminal := view.Terminal(cmd.OutOrStdout()); !terminal {
			return errors.New("top draws on a terminal, and this is none: see lazybpf status and lazybpf events")
		}
		return top.Run(cmd.Context(), control.NewClient(socket(args[0], *override)), cmd.InOrStdin(), cmd.OutOrStdout())
	}
	return cmd
}
