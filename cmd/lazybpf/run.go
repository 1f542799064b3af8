// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lazybpf/lazybpf/internal/config"
	"github.com/lazybpf/lazybpf/internal/daemon"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// configDir holds the files of interfaces, IFACE.toml each.
const configDir = "/etc/lazybpf"

// defaultBPFFS is where bpffs is mounted on most machines.
const defaultBPFFS = "/sys/fs/bpf"

var wakeModes = map[string]lazy.WakeMode{"pass": lazy.WakePass, "hold": lazy.WakeHold}

func newRunCommand() *cobra.Command {
	options := daemon.Options{
		InactivityThreshold: lazy.DefaultThreshold,
		OpenTimeout:         lazy.DefaultOpenTimeout,
		MaxOpens:            lazy.DefaultMaxOpens,
	}
	cmd := &cobra.Command{
		Use:   "run IFACE",
		Short: "Manage the peers of a WireGuard interface",
		Long: `Manage the peers of an existing WireGuard interface, of the kernel or of wireguard-go, until SIGINT
or SIGTERM. Peers with a handshake in the last 180 seconds start connected, the others asleep. Peers that are added to
the interface, changed or removed meanwhile are noticed within 5 seconds. At the end every peer has its keepalive back.

Each flag can also be set in the environment (LAZYBPF_MAX_OPENS for --max-opens) and, without its dashes, in the
configuration file. A flag beats the environment, which beats the file.`,
		Example: `  lazybpf run wg0
  lazybpf run wg0 --inactivity-threshold 5m --exclude 10.0.0.1`,
		Args:              oneInterface,
		ValidArgsFunction: completeInterface,
	}
	flags := cmd.Flags()
	flags.String("config", "", "`FILE` of settings (default \""+configDir+"/IFACE.toml\" if there is one)")
	wake := &choice{value: "pass", words: []string{"pass", "hold"}}
	format := &choice{value: "text", words: []string{"text", "json"}}
	level := &choice{value: "info", words: []string{"error", "warn", "info", "debug"}}
	flags.Var(duration{&options.InactivityThreshold, lazy.MinThreshold}, "inactivity-threshold",
		"how long a peer is silent before it is put to sleep; at least "+lazy.MinThreshold.String())
	flags.Var(wake, "wake", "what happens to the packet that wakes a peer")
	flags.StringSliceVar(&options.Exclude, "exclude", nil, "`PEER` that never sleeps; repeatable")
	flags.Var(duration{&options.OpenTimeout, time.Millisecond}, "open-timeout", "how long opening a peer may take")
	flags.Var(count{&options.MaxOpens}, "max-opens", "how many peers are opened at once")
	flags.StringVar(&options.Control, "control", "", "`PATH` of the socket for commands (default \""+socket("IFACE", "")+"\")")
	flags.StringVar(&options.BPFFS, "bpffs", defaultBPFFS, "`DIR` of the bpffs to pin maps in; empty: none")
	flags.Var(level, "log-level", "how much to log")
	flags.Var(format, "log-format", "how to log")

	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		options.Interface = args[0]
		if err := loadSettings(flags, options.Interface); err != nil {
			return err
		}
		options.Control = socket(options.Interface, options.Control)
		options.Wake = wakeModes[wake.value]
		var err error
		if options.Log, err = newLogger(cmd.ErrOrStderr(), level.value, format.value); err != nil {
			return err
		}
		d, err := daemon.New(options)
		if err != nil {
			return err
		}
		return d.Run(cmd.Context())
	}
	return cmd
}

// loadSettings sets the flags that were not given.
func loadSettings(flags *pflag.FlagSet, iface string) error {
	if err := config.FromEnvironment(flags); err != nil {
		return usageError{err}
	}
	path := flags.Lookup("config").Value.String()
	if path == "" {
		path = filepath.Join(configDir, iface+".toml")
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return nil
		}
	}
	var keys []string
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name != "config" && f.Name != "help" {
			keys = append(keys, f.Name)
		}
	})
	return config.FromFile(flags, path, keys)
}

func newLogger(out io.Writer, level, format string) (*logrus.Logger, error) {
	log := logrus.New()
	log.SetOutput(out)
	parsed, err := logrus.ParseLevel(level)
	if err != nil {
		return nil, err
	}
	log.SetLevel(parsed)
	if format == "json" {
		log.SetFormatter(&logrus.JSONFormatter{TimestampFormat: time.RFC3339Nano})
	} else {
		log.SetFormatter(&logrus.TextFormatter{FullTimestamp: true})
	}
	return log, nil
}

func newRestoreCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restore IFACE",
		Short: "Clean up after a daemon that did not end cleanly",
		Long: `Give the peers of an interface their keepalives back as they were before a daemon that did not end cleanly, and
remove what it has left: tc filters, pinned maps, its socket. Endpoints are as WireGuard has learned them.`,
		Example:           "  lazybpf restore wg0",
		Args:              oneInterface,
		ValidArgsFunction: completeInterface,
	}
	path := controlFlag(cmd)
	bpffs := cmd.Flags().String("bpffs", defaultBPFFS, "`DIR` of the bpffs that maps were pinned in; empty: none")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		n, err := daemon.Restore(args[0], socket(args[0], *path), *bpffs)
		if err != nil {
			return err
		}
		peers := "peers"
		if n == 1 {
			peers = "peer"
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s: clean; keepalive given back to %d %s\n", args[0], n, peers)
		return nil
	}
	return cmd
}
