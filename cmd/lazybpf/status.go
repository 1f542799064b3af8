// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/lazybpf/lazybpf/internal/view"
	"github.com/lazybpf/lazybpf/pkg/control"
)

const watchInterval = time.Second

// terminalPeers is how many peers a terminal is shown unasked.
const terminalPeers = 200

func newStatusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status [IFACE]",
		Short: "Show the peers of one interface, or of every one that is managed",
		Long: `Show each peer's state and traffic, the most recently active first. An idle peer is asleep and well: its next packet
wakes it. Looking changes nothing.

A terminal is shown as many columns as it has room for, and the 200 most recently active peers unless --all is given.
Anything else, as a pipe or a file, gets all peers and columns with nothing cut; programs read -o json.`,
		Example: `  lazybpf status
  lazybpf status wg0 --watch
  lazybpf status wg0 --state connected --state connecting
  lazybpf status wg0 --peer 10.0.0.2 -o json`,
		Args:              optionalInterface,
		ValidArgsFunction: completeInterface,
	}
	output := outputFlag(cmd, "table", "json")
	override := controlFlag(cmd)
	kinds := &choices{words: control.Kinds}
	cmd.Flags().Var(kinds, "state", "only peers of this state; repeatable")
	peers := cmd.Flags().StringArray("peer", nil, "only this `PEER`; repeatable")
	_ = cmd.RegisterFlagCompletionFunc("peer", completePeer) // the flag is there
	all := cmd.Flags().Bool("all", false, "all peers, on a terminal too")
	watch := cmd.Flags().Bool("watch", false, "show it again every second, until interrupted")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		ctx, out := cmd.Context(), cmd.OutOrStdout()
		filter := control.Filter{Kinds: kinds.values, Peers: *peers}
		write := func(text string) error {
			if *watch {
				text += "\n"
			}
			_, err := io.WriteString(out, text)
			return err
		}
		if *watch && view.Draws(out) && output.value == "table" {
			screen, err := view.OpenScreen(out)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, screen.Close()) }()
			write = screen.Show
		}
		show := func(ctx context.Context) error {
			clients, err := statusClients(control.Dir, args, *override, filter)
			if err != nil {
				return err
			}
			if output.value == "json" {
				return copyAll(ctx, out, clients, filter)
			}
			statuses, err := askAll(ctx, clients, filter)
			if len(statuses) > 0 {
				err = errors.Join(write(view.Statuses(statuses, tableOptions(out, *all))), err)
			}
			return err
		}
		if !*watch {
			return show(ctx)
		}
		resized := make(chan os.Signal, 1)
		signal.Notify(resized, unix.SIGWINCH)
		defer signal.Stop(resized)
		return repeat(ctx, watchInterval, resized, show)
	}
	return cmd
}

func tableOptions(out io.Writer, all bool) view.Options {
	width, _, terminal := view.Terminal(out)
	o := view.Options{Now: time.Now(), Width: width, Colour: view.UseColour(out)}
	if terminal && !all {
		o.Peers = terminalPeers
	}
	return o
}

// sockets are those of the daemons that have theirs in dir.
func sockets(dir string) (paths []string, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".sock") {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	return paths, err
}

// statusClients returns a client for the one interface that was named, or else for each that has a socket in dir.
func statusClients(dir string, args []string, override string, filter control.Filter) ([]*control.Client, error) {
	paths, err := sockets(dir)
	switch {
	case override != "" || len(args) > 0:
		paths = []string{socket(first(args), override)}
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w: run as root, or name the interface", err)
	case err != nil:
		return nil, err
	case len(paths) == 0:
		return nil, errors.New("no interface is managed: start with `lazybpf run IFACE`")
	case len(paths) > 1 && len(filter.Peers) > 0:
		return nil, usagef("%d interfaces are managed: name that of the peer, too", len(paths))
	}
	clients := make([]*control.Client, len(paths))
	for i, path := range paths {
		clients[i] = control.NewClient(path)
	}
	return clients, nil
}

// askAll returns the status of every daemon that answers, and the errors of those that do not.
func askAll(ctx context.Context, clients []*control.Client, filter control.Filter) ([]control.Status, error) {
	var statuses []control.Status
	var errs []error
	for _, client := range clients {
		status, err := client.Status(ctx, filter)
		if err != nil {
			errs = append(errs, explainPeer(err))
			continue
		}
		statuses = append(statuses, status)
	}
	return statuses, errors.Join(errs...)
}

// copyAll writes the status of every daemon that answers, one JSON object a line.
func copyAll(ctx context.Context, w io.Writer, clients []*control.Client, filter control.Filter) error {
	var errs []error
	for _, client := range clients {
		errs = append(errs, explainPeer(client.CopyStatus(ctx, w, filter)))
	}
	return errors.Join(errs...)
}

// repeat calls do each interval, and when again says so, until it fails or ctx is done, which is no error. Between two calls
// is at least the time that three take: who watches many peers does not keep the machine busy.
func repeat(ctx context.Context, interval time.Duration, again <-chan os.Signal, do func(context.Context) error) error {
	for {
		begin := time.Now()
		err := do(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		took := time.Since(begin)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(max(interval-took, 3*took)):
		case <-again:
		}
	}
}
