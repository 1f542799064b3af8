// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// WGQuick is what a file of wg-quick(8) says that WireGuard does not know. All
// else in it, its keys above all, is passed over.
type WGQuick struct {
	// Names are the endpoints that are names of hosts: wg-quick looks them up
	// once, and WireGuard knows only addresses.
	Names map[lazy.Key]string
	// SaveConfig: wg-quick down writes the file anew, of what the interface has.
	SaveConfig bool
}

// ReadWGQuick reads such a file. That there is none is no error.
func ReadWGQuick(path string) (WGQuick, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return WGQuick{}, nil
	}
	if err != nil {
		return WGQuick{}, fmt.Errorf("endpoints of wg-quick: %w", err)
	}
	names := make(map[lazy.Key]string)
	saves := false
	var key lazy.Key
	var endpoint string
	note := func() {
		if key != (lazy.Key{}) && isName(endpoint) {
			names[key] = endpoint
		}
		key, endpoint = lazy.Key{}, ""
	}
	for line := range strings.Lines(string(content)) {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			note()
			continue
		}
		name, value, _ := strings.Cut(line, "=")
		value = strings.TrimSpace(value)
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "publickey":
			key, _ = lazy.ParseKey(value) // wg-quick has said what it thinks of a bad one
		case "endpoint":
			endpoint = value
		case "saveconfig":
			saves = strings.EqualFold(value, "true")
		}
	}
	note()
	return WGQuick{names, saves}, nil
}

// isName says whether an endpoint is host:port with a name for a host.
func isName(endpoint string) bool {
	host, port, err := net.SplitHostPort(endpoint)
	_, notAddress := netip.ParseAddr(host)
	return err == nil && host != "" && port != "" && notAddress != nil
}
