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
	"github.com/spf13/pflag"

	"github.com/lazybpf/lazybpf/internal/config"
	"github.com/lazybpf/lazybpf/internal/daemon"
	"github.com/lazybpf/lazybpf/internal/view"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

const (
	// configDir holds the files of interfaces, IFACE.toml each.
	configDir = "/etc/lazybpf"
	// wgQuickDir holds those of wg-quick, IFACE.conf each.
	wgQuickDir = "/etc/wireguard"
	// defaultBPFFS is where bpffs is mounted on most machines.
	defaultBPFFS = "/sys/fs/bpf"
)

var wakeModes = map[string]lazy.WakeMode{"pass": lazy.WakePass, "hold": lazy.WakeHold}

// settings are what `lazybpf run` is told by flags, environment and file.
type settings struct {
	flags   *pflag.FlagSet
	options daemon.Options
	wake    choice
	level   choice
	format  choice
}

func newSettings() *settings {
	s := &settings{
		flags: pflag.NewFlagSet("run", pflag.ContinueOnError),
		options: daemon.Options{
			InactivityThreshold: lazy.DefaultThreshold,
			OpenTimeout:         lazy.DefaultOpenTimeout,
			MaxOpens:            lazy.DefaultMaxOpens,
		},
		wake:   choice{value: "pass", words: []string{"pass", "hold"}},
		level:  choice{value: "info", words: []string{"error", "warn", "info", "debug"}},
		format: choice{value: "text", words: []string{"text", "json"}},
	}
	o, flags := &s.options, s.flags
	flags.String("config", "", "`FILE` of settings (default \""+configDir+"/IFACE.toml\" if there is one)")
	flags.Var(duration{value: &o.InactivityThreshold, least: lazy.MinThreshold}, "inactivity-threshold",
		"how long a peer is silent before it is put to sleep; at least "+lazy.MinThreshold.String())
	flags.Var(&s.wake, "wake", "what happens to the packet that wakes a peer")
	flags.Var(names{&o.Exclude}, "exclude", "`PEER` that never sleeps; repeatable")
	flags.Var(duration{value: &o.EvictAfter, least: lazy.MinEvictAfter, never: true}, "evict-after",
		"how long a peer is asleep before it is removed from the interface; at least "+view.TrimDuration(lazy.MinEvictAfter.String())+", 0 for never")
	flags.Var(duration{value: &o.OpenTimeout, least: time.Millisecond}, "open-timeout", "how long opening a peer may take")
	flags.Var(count{&o.MaxOpens}, "max-opens", "how many peers are opened at once")
	flags.Var(rate{&o.WakeRate}, "wake-rate", "how many peers packets may wake a second, on average; 0: any number")
	flags.Var(socketPath{&o.Control}, "control", "`PATH` of the socket for commands (default \""+socket("IFACE", "")+"\")")
	flags.Var(group{&o.ControlGroup}, "control-group",
		"`GROUP`, by name or number, whose members may look: status, top, events; empty: only root")
	flags.StringVar(&o.BPFFS, "bpffs", defaultBPFFS, "`DIR` of the bpffs to pin maps in; empty: none")
	flags.Var(address{&o.MetricsListen}, "metrics-listen", "`ADDRESS` for Prometheus, such as localhost:9586; empty: none")
	flags.BoolVar(&o.MetricsPeers, "metrics-peers", false, "metrics of each peer, also where there are more than 1,000")
	flags.Var(&s.level, "log-level", "how much to log")
	flags.Var(&s.format, "log-format", "how to log")
	return s
}

// load makes the options of a daemon of what was given on the command line, the
// environment, and the files as they are now.
func load(iface string, given *pflag.FlagSet, log io.Writer) (daemon.Options, error) {
	s := newSettings()
	var err error
	given.Visit(func(f *pflag.Flag) {
		if own := s.flags.Lookup(f.Name); own != nil {
			err = errors.Join(err, copyFlag(s.flags, f))
		}
	})
	if err != nil {
		return daemon.Options{}, err
	}
	if err := config.FromEnvironment(s.flags); err != nil {
		return daemon.Options{}, usageError{err}
	}
	if s.options.Policy, err = s.readFile(iface); err != nil {
		return daemon.Options{}, err
	}
	if s.options.WGQuick, err = config.ReadWGQuick(filepath.Join(wgQuickDir, iface+".conf")); err != nil {
		return daemon.Options{}, err
	}
	s.options.Interface, s.options.Version = iface, buildVersion()
	s.options.Control = socket(iface, s.options.Control)
	s.options.Wake = wakeModes[s.wake.value]
	s.options.Log, err = newLogger(log, s.level.value, s.format.value)
	return s.options, err
}

// copyFlag sets a flag as another one of its name was set.
func copyFlag(to *pflag.FlagSet, from *pflag.Flag) error {
	if list, ok := from.Value.(pflag.SliceValue); ok {
		to.Lookup(from.Name).Changed = true
		return to.Lookup(from.Name).Value.(pflag.SliceValue).Replace(list.GetSlice())
	}
	return to.Set(from.Name, from.Value.String())
}

// readFile sets the flags that nobody has set yet, and returns what else the
// file says.
func (s *settings) readFile(iface string) (config.Policy, error) {
	path := s.flags.Lookup("config").Value.String()
	if path == "" {
		path = filepath.Join(configDir, iface+".toml")
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return config.Policy{}, nil
		}
	}
	var keys []string
	s.flags.VisitAll(func(f *pflag.Flag) {
		if f.Name != "config" {
			keys = append(keys, f.Name)
		}
	})
	return config.FromFile(s.flags, path, keys)
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
		log.SetFormatter(jsonFormatter{&logrus.JSONFormatter{TimestampFormat: time.RFC3339Nano}})
	} else {
		log.SetFormatter(&logrus.TextFormatter{FullTimestamp: true, DisableColors: !view.UseColour(out)})
	}
	return log, nil
}

// jsonFormatter writes as text what text logs have as text: reasons, durations, flows.
type jsonFormatter struct{ json *logrus.JSONFormatter }

func (f jsonFormatter) Format(e *logrus.Entry) ([]byte, error) {
	texts := *e
	texts.Data = make(logrus.Fields, len(e.Data))
	for name, value := range e.Data {
		if s, ok := value.(fmt.Stringer); ok {
			value = s.String()
		}
		texts.Data[name] = value
	}
	return f.json.Format(&texts)
}
