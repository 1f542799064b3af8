// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/lazybpf/lazybpf/internal/view"
	"github.com/lazybpf/lazybpf/pkg/control"
)

func newWakeCommand() *cobra.Command {
	return newPeersCommand("wake", "Connect peers now, without waiting for a packet", (*control.Client).Wake)
}

func newSleepCommand() *cobra.Command {
	return newPeersCommand("sleep", "Park peers now, without waiting for them to fall silent", (*control.Client).Sleep)
}

func newExcludeCommand() *cobra.Command {
	return newPeersCommand("exclude", "Make peers permanent: connected, and never parked", (*control.Client).Exclude)
}

func newIncludeCommand() *cobra.Command {
	return newPeersCommand("include", "Make permanent peers lazy again", (*control.Client).Include)
}

// newPeersCommand returns a command that names peers to the daemon and prints what became of each.
func newPeersCommand(verb, short string,
	do func(*control.Client, context.Context, []string) ([]control.Result, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use:   verb + " IFACE PEER...",
		Short: short,
		Long: short + `.

PEER is a public key, a unique prefix of one (at least 4 characters), an address inside its
allowed IPs, or a name that the configuration file gives it. If one of several is not found, nothing is done to any of them.`,
		Example: fmt.Sprintf("  lazybpf %s wg0 10.0.0.2\n  lazybpf %[1]s wg0 10.0.0.2 fd00::2", verb),
		Args:    interfaceAndPeers,

		ValidArgsFunction: completeInterfaceAndPeers,
	}
	override := controlFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		iface, peers := args[0], args[1:]
		results, err := do(control.NewClient(socket(iface, *override)), cmd.Context(), peers)
		if err != nil {
			return explainPeer(err)
		}
		return writeResults(cmd.OutOrStdout(), results)
	}
	return cmd
}

// explainPeer says where to look for a name that is nobody's.
func explainPeer(err error) error {
	if errors.Is(err, control.ErrNoPeer) {
		return fmt.Errorf("%w: `lazybpf status` shows all", err)
	}
	return err
}

// writeResults writes a line for each peer that it went well for, and returns an error for the others.
func writeResults(w io.Writer, results []control.Result) error {
	var errs []error
	for _, r := range results {
		if r.Error != "" {
			errs = append(errs, fmt.Errorf("%s: %s", r.Peer, r.Error))
			continue
		}
		line := r.Peer + ": " + r.State
		if r.Took != "" {
			line += ", took " + view.Took(r.Took)
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}
