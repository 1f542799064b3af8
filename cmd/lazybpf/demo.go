// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/lazybpf/lazybpf/internal/demo"
	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/view"
)

func newDemoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Show a peer sleep, wake and sleep again, on a network made for it",
		Long: `Build a network of two hosts in namespaces, with real WireGuard between them (the kernel's, or else the wireguard-go
that is built in), run the daemon on it, and show a peer sleep, wake by its first packet and sleep again, with figures.
It takes root, less than half a minute, and no other program. It neither sees nor changes the network of this machine,
and nothing is left of it. It fails if a packet is lost, or the peer does not sleep or wake.`,
		Example: "  lazybpf demo",
		Args:    noArgs,
		RunE:    runDemo,
	}
}

// errTold is the failure of a process that another has told already.
var errTold = errors.New("told by the process in the lab")

// runDemo is called in two processes: the first waits for the second, which is in the lab and tells what happens there.
func runDemo(cmd *cobra.Command, _ []string) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	var failure error
	code, err := lab.Reexec(func() int {
		failure = demo.Run(ctx, out, view.UseColour(out))
		return exitDone
	})
	switch {
	case errors.Is(err, fs.ErrPermission):
		return errors.New("the demo makes network namespaces: run it as root, with CAP_SYS_ADMIN and CAP_NET_ADMIN")
	case err != nil:
		return err
	case code == exitDone:
		return failure
	case code == exitFailed:
		return errTold
	case ctx.Err() != nil: // so early that it could not tell
		return ctx.Err()
	}
	return fmt.Errorf("the process in the lab ended with exit code %d", code)
}
