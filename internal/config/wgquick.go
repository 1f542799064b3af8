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

// WGQuick reads a file of wg-quick(8), and returns the endpoints that are names
// of hosts: wg-quick looks them up once, and WireGuard knows only addresses.
// All else in the file, its keys above all, is passed over. That there is no
// file is no error.
func WGQuick(path string) (map[lazy.Key]string, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("endpoints of wg-quick: %w", err)
	}
	names := make(map[lazy.Key]string)
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
		}
	}
	note()
	return names, nil
}

// isName says whether an endpoint is host:port with a name for a host.
func isName(endpoint string) bool {
	host, port, err := net.SplitHostPort(endpoint)
	_, notAddress := netip.ParseAddr(host)
	return err == nil && host != "" && port != "" && notAddress != nil
}
