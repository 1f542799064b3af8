// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/lazybpf/lazybpf/internal/config"
	"github.com/lazybpf/lazybpf/internal/daemon"
)

func newRunCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run IFACE",
		Short: "Manage the peers of a WireGuard interface",
		Long: `Manage the peers of an existing WireGuard interface, of the kernel or of wireguard-go, until SIGINT
or SIGTERM. Peers with a handshake in the last 180 seconds start connected, the others asleep. Peers that are added to
the interface, changed or removed meanwhile are noticed within 5 seconds. At the end every peer has its keepalive back.

When the interface is deleted, as by wg-quick down, the daemon waits until there is one of the same name again, and then
manages that with the peers that it has. Who is excluded by name or address is then whoever has these; peers that were
excluded by hand stay so by their public keys.

With --evict-after, a peer that has been asleep that long and had no handshake for 180 seconds is removed from the
interface. It is put back whole by the next packet to it, which waits meanwhile, by lazybpf wake, or at the end. That
keeps a WireGuard with very many peers small. What it costs: wg show does not list such a peer; the peer itself cannot
wake us; wg set and wg syncconf do not know it, so to change or revoke it, wake it first; wg-quick save (SaveConfig) would
lose it; and if lazybpf is killed nobody reaches it before lazybpf restore or the next run.

Each flag can also be set in the environment (LAZYBPF_MAX_OPENS for --max-opens) and, without its dashes, in the
configuration file. A flag beats the environment, which beats the file. The file has more: names, endpoints and hooks of
single peers, and what counts as activity. SIGHUP has it read again, as lazybpf reload does.

Endpoints that /etc/wireguard/IFACE.conf gives by the name of a host are looked up each time that their peer wakes.`,
		Example: `  lazybpf run wg0
  lazybpf run wg0 --inactivity-threshold 5m --exclude 10.0.0.1
  lazybpf run wg0 --check-config`,
		Args:              oneInterface,
		ValidArgsFunction: completeInterface,
	}
	cmd.Flags().AddFlagSet(newSettings().flags)
	_ = cmd.RegisterFlagCompletionFunc("exclude", completePeer) // the flag is there
	check := cmd.Flags().Bool("check-config", false, "only say whether the settings are good, and fit the peers of the interface if it is there")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		read := func() (daemon.Options, error) {
			options, err := load(args[0], cmd.Flags(), cmd.ErrOrStderr())
			if errors.Is(err, fs.ErrPermission) {
				err = fmt.Errorf("%w: run as root", err)
			}
			return options, err
		}
		options, err := read()
		if err != nil {
			return err
		}
		if err := forbidCore(); err != nil {
			return err
		}
		if *check {
			return checkSettings(cmd.OutOrStdout(), options)
		}
		for _, name := range config.UnknownVariables(newSettings().flags) {
			options.Log.Warn(name + unknownVariable)
		}
		options.Read = read
		d, err := daemon.New(cmd.Context(), options)
		if errors.Is(err, context.Canceled) {
			return nil
		}
		if err != nil {
			return err
		}
		return d.Run(cmd.Context())
	}
	return cmd
}

// checkSettings says whether settings that could be read are good, and what else there is to say of them.
func checkSettings(w io.Writer, options daemon.Options) error {
	notes, err := daemon.CheckPeers(options)
	if err != nil {
		return err
	}
	for _, name := range config.UnknownVariables(newSettings().flags) {
		notes = append(notes, name+unknownVariable)
	}
	for _, line := range append([]string{"the settings are good"}, notes...) {
		if _, err := fmt.Fprintf(w, "%s: %s\n", options.Interface, line); err != nil {
			return err
		}
	}
	return nil
}

const unknownVariable = " in the environment is no option: passed over"

// forbidCore is for whoever reads devices: their keys are in memory then, and
// no core file may have them.
func forbidCore() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid core files: %w", err)
	}
	return nil
}

func newRestoreCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restore IFACE",
		Short: "Clean up after a daemon that did not end cleanly",
		Long: `Give the peers of an interface their keepalives back as they were before a daemon that did not end cleanly, put back
those that it had evicted, and remove what it has left: tc filters, pinned maps, its socket. Endpoints are as WireGuard
has learned them.`,
		Example:           "  lazybpf restore wg0",
		Args:              oneInterface,
		ValidArgsFunction: completeInterface,
	}
	path := controlFlag(cmd)
	bpffs := cmd.Flags().String("bpffs", defaultBPFFS, "`DIR` of the bpffs that maps were pinned in; empty: none")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := forbidCore(); err != nil {
			return err
		}
		n, err := daemon.Restore(args[0], socket(args[0], *path), *bpffs)
		if err != nil {
			return err
		}
		peers := "peers"
		if n == 1 {
			peers = "peer"
		}
		done := fmt.Sprintf("restored %d %s", n, peers)
		if _, err := net.InterfaceByName(args[0]); err != nil {
			done = "there is no such interface, and no peers to restore"
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: clean; %s\n", args[0], done)
		return err
	}
	return cmd
}
