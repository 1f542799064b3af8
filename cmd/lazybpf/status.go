// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/lazybpf/lazybpf/internal/control"
)

const watchInterval = time.Second

func newStatusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status [IFACE]",
		Short: "Show the peers of one interface, or of every one that is managed",
		Long: `status shows each peer's state and traffic, the most recently active first. An idle peer is asleep
and well: its next packet wakes it. Looking changes nothing.`,
		Example: `  lazybpf status
  lazybpf status wg0 --watch
  lazybpf status wg0 -o json`,
		Args:              optionalInterface,
		ValidArgsFunction: completeInterface,
	}
	output := outputFlag(cmd, "table", "json")
	override := controlFlag(cmd)
	watch := cmd.Flags().Bool("watch", false, "show it again every second, until interrupted")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		write := writeTables
		if *watch {
			write = redrawTables
		}
		show := func(ctx context.Context) error {
			paths, err := statusSockets(control.Dir, args, *override)
			if err != nil {
				return err
			}
			if output.value == "json" {
				return copyAll(ctx, cmd.OutOrStdout(), paths)
			}
			statuses, err := askAll(ctx, paths)
			if len(statuses) > 0 {
				err = errors.Join(write(cmd.OutOrStdout(), statuses), err)
			}
			return err
		}
		if *watch {
			return repeat(cmd.Context(), watchInterval, show)
		}
		return show(cmd.Context())
	}
	return cmd
}

// statusSockets returns the socket of the one interface that was named, or else all in dir.
func statusSockets(dir string, args []string, override string) ([]string, error) {
	if override != "" {
		return []string{override}, nil
	}
	if len(args) > 0 {
		return []string{control.Path(args[0])}, nil
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*.sock"))
	if err == nil && len(paths) == 0 {
		err = errors.New("no interface is managed: start with `lazybpf run IFACE`")
	}
	return paths, err
}

// askAll returns the status of every daemon that answers, and the errors of those that do not.
func askAll(ctx context.Context, paths []string) ([]control.Status, error) {
	var statuses []control.Status
	var errs []error
	for _, path := range paths {
		status, err := control.NewClient(path).Status(ctx)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		statuses = append(statuses, status)
	}
	return statuses, errors.Join(errs...)
}

// copyAll writes the status of every daemon that answers, one JSON object a line.
func copyAll(ctx context.Context, w io.Writer, paths []string) error {
	var errs []error
	for _, path := range paths {
		errs = append(errs, control.NewClient(path).CopyStatus(ctx, w))
	}
	return errors.Join(errs...)
}

// repeat calls do until it fails or ctx is done, which is no error.
func repeat(ctx context.Context, interval time.Duration, do func(context.Context) error) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		err := do(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
