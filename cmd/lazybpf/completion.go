// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/vishvananda/netlink"

	"github.com/lazybpf/lazybpf/internal/view"
	"github.com/lazybpf/lazybpf/pkg/control"
)

func newCompletionCommand() *cobra.Command {
	shells := []string{"bash", "fish", "zsh"}
	return &cobra.Command{
		Use:   "completion bash|fish|zsh",
		Short: "Write the script that completes lazybpf's commands in a shell",
		Example: `  source <(lazybpf completion bash)
  lazybpf completion fish | source`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || !slices.Contains(shells, args[0]) {
				return usagef("name a shell: %s", strings.Join(shells, " or "))
			}
			return noArgs(cmd, args[1:])
		},
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "fish":
				return root.GenFishCompletion(out, true)
			default:
				return root.GenZshCompletion(out)
			}
		},
	}
}

// completeInterface offers the interfaces that are managed, by their sockets, and those that could be.
func completeInterface(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := tunnels()
	paths, _ := sockets(control.Dir)
	for _, path := range paths {
		names = append(names, strings.TrimSuffix(filepath.Base(path), ".sock"))
	}
	slices.Sort(names)
	return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp
}

// ownTunnel is the name of a daemon's parking device.
var ownTunnel = regexp.MustCompile(`^lazy\d+$`)

// tunnels are the interfaces of WireGuard and, as wireguard-go's are, layer 3 TUN devices. There are none where they cannot
// be listed: who presses tab wants no error.
func tunnels() (names []string) {
	links, _ := netlink.LinkList()
	for _, link := range links {
		tun, isTun := link.(*netlink.Tuntap)
		if link.Type() == "wireguard" || isTun && tun.Mode == netlink.TUNTAP_MODE_TUN && !ownTunnel.MatchString(tun.Name) {
			names = append(names, link.Attrs().Name)
		}
	}
	return names
}

// completeInterfaceAndPeers offers the interface, then its daemon's peers.
func completeInterfaceAndPeers(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return completeInterface(cmd, args, word)
	}
	return peerNames(cmd, args[:1], args[1:], word), cobra.ShellCompDirectiveNoFileComp
}

// completePeer offers the value of a flag, of the interface if there is one.
func completePeer(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	return peerNames(cmd, args, nil, word), cobra.ShellCompDirectiveNoFileComp
}

// tabPatience is how long a person who presses tab waits for the daemon.
const tabPatience = 2 * time.Second

// peerNames are the names and keys that begin with a word, and addresses if it is the beginning of one. Those of a peer that
// was given already are left out.
func peerNames(cmd *cobra.Command, iface, given []string, word string) (names []string) {
	ctx, cancel := context.WithTimeout(cmd.Context(), tabPatience)
	defer cancel()
	clients, _ := statusClients(control.Dir, iface, cmd.Flag("control").Value.String(), control.Filter{})
	statuses, _ := askAll(ctx, clients, control.Filter{})
	var peers []control.Peer
	if len(statuses) == 1 { // of several, PEER takes IFACE
		peers = statuses[0].Peers
	}
	for _, p := range peers {
		candidates := []string{p.Name, p.PublicKey}
		if strings.ContainsAny(word, ".:") {
			candidates = append(candidates, hosts(p.AllowedIPs)...)
		}
		if slices.ContainsFunc(given, func(name string) bool { return slices.Contains(candidates, name) }) {
			continue
		}
		about := p.Kind() + " " + view.AllowedIPs(&p, 40)
		for _, name := range candidates {
			if name != "" && strings.HasPrefix(name, word) {
				names = append(names, cobra.CompletionWithDesc(name, about))
			}
		}
	}
	return names
}

// hosts are the prefixes that are single addresses.
func hosts(prefixes []string) (addresses []string) {
	for _, text := range prefixes {
		if p, err := netip.ParsePrefix(text); err == nil && p.IsSingleIP() {
			addresses = append(addresses, p.Addr().String())
		}
	}
	return addresses
}

// completeChoices offers the words of every flag that takes one of a few.
func completeChoices(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			var words []string
			switch value := f.Value.(type) {
			case *choice:
				words = value.words
			case *choices:
				words = value.words
			default:
				return
			}
			// It fails for a flag that is not there, or is completed already.
			_ = cmd.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
		})
	}
}

// completeCommand offers the commands that help explains.
func completeCommand(cmd *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
	if len(args) == 0 {
		for _, c := range cmd.Root().Commands() {
			names = append(names, cobra.CompletionWithDesc(c.Name(), c.Short))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
