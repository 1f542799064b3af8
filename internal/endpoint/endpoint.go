// SPDX-License-Identifier: Apache-2.0

// Package endpoint finds out where a peer is before it is connected: a hook may
// boot it or dig a tunnel to it, and its name is looked up anew each time.
package endpoint

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// Source is where to look for a peer's endpoint.
type Source struct {
	Interface string
	Name      string   // the peer's, if it has one
	Endpoint  string   // host:port; empty: as WireGuard has it
	Hook      []string // a program and its arguments; empty: none
	// Known is where WireGuard has the peer; zero: nowhere. It keeps that where
	// the name of Endpoint cannot be looked up.
	Known netip.AddrPort
}

// Empty says whether there is nothing to look for.
func (s Source) Empty() bool { return s.Endpoint == "" && len(s.Hook) == 0 }

// Finder finds endpoints. Its methods may be called from any goroutine.
type Finder struct{ names *names }

// NewFinder makes a finder that looks names up as this machine does.
func NewFinder() *Finder { return &Finder{newNames()} }

// Find runs the peer's hook, and returns the addresses of its endpoint, best
// ones first; none if WireGuard is to keep the one it has. The hook ends with
// ctx at the latest.
func (f *Finder) Find(ctx context.Context, s Source, peer lazy.Key, wake lazy.Wake) ([]netip.AddrPort, error) {
	endpoint, known := s.Endpoint, s.Known
	if len(s.Hook) > 0 {
		output, err := run(ctx, s.Hook, environment(s, peer, wake))
		if err != nil {
			return nil, fmt.Errorf("hook %s: %w", s.Hook[0], err)
		}
		if said := endpointOf(output); said != "" {
			endpoint, known = said, netip.AddrPort{}
		}
	}
	if endpoint == "" {
		return nil, nil
	}
	return f.names.resolve(ctx, endpoint, known)
}

// LookUp returns the addresses of the peer's endpoint, best ones first; none for a
// peer without, or with a hook, which alone may know.
func (f *Finder) LookUp(ctx context.Context, s Source) ([]netip.AddrPort, error) {
	if s.Endpoint == "" || len(s.Hook) > 0 {
		return nil, nil
	}
	return f.names.resolve(ctx, s.Endpoint, s.Known)
}

// environment is all that a hook has of one.
func environment(s Source, peer lazy.Key, wake lazy.Wake) []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"LAZYBPF_INTERFACE=" + s.Interface,
		"LAZYBPF_PEER=" + peer.String(),
		"LAZYBPF_NAME=" + s.Name,
		"LAZYBPF_ENDPOINT=" + s.Endpoint,
		"LAZYBPF_REASON=" + wake.Reason.String(),
		"LAZYBPF_FLOW=" + wake.Event.Flow.String(),
	}
}

// endpointOf finds the last line endpoint=host:port of what a hook has printed.
func endpointOf(output string) string {
	endpoint := ""
	for line := range strings.Lines(output) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "endpoint="); ok {
			endpoint = value
		}
	}
	return endpoint
}
