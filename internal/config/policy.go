// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/lazybpf/lazybpf/pkg/detect"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// Policy is what the file of an interface says beside flags.
type Policy struct {
	Peers []Peer
	Rules []detect.Rule // of the interface
}

// Peer is what is to be done with a peer. Zero fields say nothing.
type Peer struct {
	Name      string
	Key       lazy.Key
	Endpoint  string         // host:port, the host a name or an address
	Keepalive *time.Duration // while the peer is awake; 0: off
	Threshold time.Duration
	Wake      lazy.WakeMode
	Excluded  bool
	Groups    []string
	Rules     []detect.Rule
	// Hook is a program and its arguments, to run before the peer is connected.
	Hook []string
}

func (p Policy) hooks() bool {
	return slices.ContainsFunc(p.Peers, func(p Peer) bool { return len(p.Hook) > 0 })
}

// document is the file as it is written, without the flags.
type document struct {
	Rules []rule          `toml:"rules"`
	Peers map[string]peer `toml:"peers"`
}

type peer struct {
	PublicKey           string   `toml:"public-key"`
	Endpoint            string   `toml:"endpoint"`
	Keepalive           string   `toml:"keepalive"`
	InactivityThreshold string   `toml:"inactivity-threshold"`
	Wake                string   `toml:"wake"`
	Excluded            bool     `toml:"excluded"`
	Groups              []string `toml:"groups"`
	Rules               []rule   `toml:"rules"`
	Hook                []string `toml:"hook"`
}

type rule struct {
	Effect    string `toml:"effect"`
	Direction string `toml:"direction"`
	Protocol  string `toml:"protocol"`
	Ports     string `toml:"ports"`
}

// What words in a file stand for.
var (
	wakeModes  = map[string]lazy.WakeMode{"": lazy.WakeDefault, "pass": lazy.WakePass, "hold": lazy.WakeHold}
	effects    = map[string]detect.Effect{"ignored": detect.Ignored, "wakes": detect.Wakes, "keeps-awake": detect.KeepsAwake, "counts": detect.Counts}
	directions = map[string]detect.RuleDirection{"": detect.EitherDirection, "egress": detect.EgressOnly, "ingress": detect.IngressOnly}
	protocols  = map[string]uint8{"": 0, "icmp": 1, "igmp": 2, "tcp": 6, "udp": 17, "dccp": 33, "gre": 47, "esp": 50, "icmpv6": 58, "sctp": 132}
)

func (d document) policy() (Policy, error) {
	var p Policy
	var err error
	if p.Rules, err = rulesOf(d.Rules); err != nil {
		return Policy{}, err
	}
	owners := make(map[lazy.Key]string)
	for _, name := range slices.Sorted(maps.Keys(d.Peers)) {
		peer, err := d.Peers[name].policy(name)
		if err == nil && owners[peer.Key] != "" {
			err = wrong(fmt.Errorf("peer %s has this key already", owners[peer.Key]), "public-key")
		}
		if err != nil {
			return Policy{}, wrong(err, "peers", name)
		}
		owners[peer.Key] = name
		p.Peers = append(p.Peers, peer)
	}
	return p, nil
}

func (p peer) policy(name string) (Peer, error) {
	out := Peer{Name: name, Endpoint: p.Endpoint, Excluded: p.Excluded, Groups: p.Groups, Hook: p.Hook}
	var err [6]error
	out.Key, err[0] = lazy.ParseKey(p.PublicKey)
	err[1] = checkEndpoint(p.Endpoint)
	out.Keepalive, err[2] = keepaliveOf(p.Keepalive)
	out.Threshold, err[3] = thresholdOf(p.InactivityThreshold)
	out.Wake, err[4] = word(wakeModes, p.Wake)
	if len(p.Hook) > 0 && !filepath.IsAbs(p.Hook[0]) {
		err[5] = fmt.Errorf("%q: must be a list of a program, by its absolute path, and its arguments", p.Hook[0])
	}
	for i, key := range []string{"public-key", "endpoint", "keepalive", "inactivity-threshold", "wake", "hook"} {
		if err[i] != nil {
			return Peer{}, wrong(err[i], key)
		}
	}
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r == ' ' || r == ',' || !unicode.IsPrint(r) }) {
		return Peer{}, wrong(fmt.Errorf("%q is no name: it must have characters that can be seen, and no spaces or commas", name))
	}
	var rulesErr error
	out.Rules, rulesErr = rulesOf(p.Rules)
	return out, rulesErr
}

func rulesOf(rules []rule) ([]detect.Rule, error) {
	var out []detect.Rule
	for i, r := range rules {
		rule, err := r.policy()
		if err == nil {
			err = detect.ValidateRules([]detect.Rule{rule})
		}
		if err != nil {
			return nil, wrong(err, "rules", strconv.Itoa(i+1))
		}
		out = append(out, rule)
	}
	return out, wrong(detect.ValidateRules(out), "rules")
}

func (r rule) policy() (out detect.Rule, err error) {
	if out.Effect, err = word(effects, r.Effect); err != nil {
		return out, wrong(err, "effect")
	}
	if out.Direction, err = word(directions, r.Direction); err != nil {
		return out, wrong(err, "direction")
	}
	if number, notNumber := strconv.ParseUint(r.Protocol, 10, 8); notNumber == nil && number != 0 {
		out.Protocol = uint8(number)
	} else if out.Protocol, err = word(protocols, r.Protocol); err != nil {
		return out, wrong(fmt.Errorf("%w, or a number from 1 to 255", err), "protocol")
	}
	out.Ports, err = portsOf(r.Ports)
	return out, wrong(err, "ports")
}

// word looks up what a word of the file stands for.
func word[T any](words map[string]T, s string) (T, error) {
	value, ok := words[s]
	if !ok {
		known := slices.DeleteFunc(slices.Sorted(maps.Keys(words)), func(s string) bool { return s == "" })
		return value, fmt.Errorf("%q: must be one of %s", s, strings.Join(known, ", "))
	}
	return value, nil
}

func portsOf(s string) (detect.PortRange, error) {
	if s == "" {
		return detect.PortRange{}, nil
	}
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	a, err1 := strconv.ParseUint(first, 10, 16)
	b, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil || a == 0 || a > b {
		return detect.PortRange{}, fmt.Errorf("%q: must be a port from 1 to 65535, or a range like 5000-5100", s)
	}
	return detect.PortRange{First: uint16(a), Last: uint16(b)}, nil
}

func checkEndpoint(s string) error {
	if s == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(s)
	if n, bad := strconv.ParseUint(port, 10, 16); err != nil || host == "" || strings.Contains(host, " ") || bad != nil || n == 0 {
		return fmt.Errorf("%q: must be host:port, as vpn.example.com:51820 or [2001:db8::1]:51820", s)
	}
	return nil
}

// maxKeepalive is the longest persistent keepalive of WireGuard: 16 bits of seconds.
const maxKeepalive = 65535 * time.Second

func keepaliveOf(s string) (*time.Duration, error) {
	var d time.Duration
	switch s {
	case "":
		return nil, nil
	case "off":
		return &d, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Second || d > maxKeepalive || d%time.Second != 0 {
		return nil, fmt.Errorf(`%q: must be "off", or whole seconds from "1s" to "65535s"`, s)
	}
	return &d, nil
}

func thresholdOf(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < lazy.MinThreshold {
		return 0, fmt.Errorf(`%q: must be a duration of at least %s, like "15m"`, s, lazy.MinThreshold)
	}
	return d, nil
}

// Keys are all keys that a file may have beside the names of flags.
func Keys() []string {
	return slices.Concat(fields(document{}), fields(peer{}), fields(rule{}))
}

// fields are the keys that a part of the file may have.
func fields(part any) []string { return fieldsOf(reflect.TypeOf(part)) }

func fieldsOf(part reflect.Type) []string {
	var keys []string
	for _, f := range reflect.VisibleFields(part) {
		keys = append(keys, f.Tag.Get("toml"))
	}
	return keys
}
