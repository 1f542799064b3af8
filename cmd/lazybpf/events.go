// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/lazybpf/lazybpf/internal/view"
	"github.com/lazybpf/lazybpf/pkg/control"
)

func newEventsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "events IFACE",
		Short: "Follow the state changes of peers, until interrupted",
		Example: `  lazybpf events wg0
  lazybpf events wg0 -o json`,
		Args:              oneInterface,
		ValidArgsFunction: completeInterface,
	}
	output := outputFlag(cmd, "text", "json")
	override := controlFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, out := cmd.Context(), cmd.OutOrStdout()
		client := control.NewClient(socket(args[0], *override))
		changes, err := client.Subscribe(ctx)
		if err == nil {
			defer changes.Close()
		}
		enc := control.NewEncoder(out)
		write := func(e control.Event) error { return enc.Encode(e) }
		if output.value == "text" && err == nil {
			var status control.Status
			status, err = client.Status(ctx, control.Filter{})
			labels := make(map[string]string)
			for _, p := range status.Peers {
				labels[p.PublicKey] = view.Label(&p)
			}
			write = func(e control.Event) error {
				return writeEvent(out, e, cmp.Or(labels[e.PublicKey], view.ShortKey(e.PublicKey)))
			}
		}
		for err == nil {
			var e control.Event
			if e, err = changes.Next(); err == nil {
				err = write(e)
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	return cmd
}

func writeEvent(w io.Writer, e control.Event, label string) error {
	line := fmt.Sprintf("%s  %s  %s -> %s", e.Time.Local().Format("15:04:05.000"), label,
		cmp.Or(e.From, "new"), cmp.Or(e.To, "gone"))
	if e.Reason != "" {
		line += "  " + e.Reason
	}
	if e.Flow != "" {
		line += "  " + e.Flow
	}
	if e.UID != nil {
		line += fmt.Sprintf("  uid %d", *e.UID)
	}
	_, err := fmt.Fprintln(w, line)
	return err
}
