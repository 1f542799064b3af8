// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/lazybpf/lazybpf/internal/config"
	"github.com/lazybpf/lazybpf/internal/wg"
	"github.com/lazybpf/lazybpf/pkg/control"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// peersOf makes peers of public keys and their allowed IPs.
func peersOf(t *testing.T, all map[lazy.Key]string) roster {
	t.Helper()
	var peers []wg.Peer
	for key, prefixes := range all {
		p := wg.Peer{Key: key}
		for text := range strings.FieldsSeq(prefixes) {
			prefix, err := netip.ParsePrefix(text)
			if err != nil {
				t.Fatal(err)
			}
			p.AllowedIPs = append(p.AllowedIPs, prefix)
		}
		peers = append(peers, p)
	}
	return newRoster(peers)
}

func TestResolve(t *testing.T) {
	var (
		laptop  = keyOf("Lapt")
		office  = keyOf("Offi")
		gateway = keyOf("Gate")
		twin    = keyOf("Twin")
		other   = keyOf("Twin")
	)
	other[5] = 1
	peers := peersOf(t, map[lazy.Key]string{
		laptop:  "10.0.0.2/32 fd00::2/128",
		office:  "10.0.0.0/24 10.9.0.0/16 fd00::/64",
		gateway: "0.0.0.0/0",
		twin:    "10.0.0.128/25",
		other:   "",
	})
	whole := laptop.String()
	p := newPolicy(Options{Policy: config.Policy{Peers: []config.Peer{
		{Name: "roof", Key: office}, {Name: "Twin2", Key: twin}, {Name: "Gate", Key: laptop}, {Name: "gone", Key: keyOf("Gone")},
	}}})
	for _, test := range []struct {
		name string
		want lazy.Key
		err  error
		says string
	}{
		{name: "roof", want: office},
		{name: "Twin2", want: twin},
		{name: "Gate", want: laptop}, // a name beats the beginning of a key
		{name: "gone", err: control.ErrNoPeer, says: "gone, " + keyOf("Gone").String() + ", is not on the interface"},
		{name: "Roof", err: control.ErrNoPeer, says: "Roof"},

		{name: whole, want: laptop},
		{name: whole[:43], want: laptop},
		{name: "Lapt", want: laptop},
		{name: "LaptAAAA", want: laptop},
		{name: "Lap", err: control.ErrNoPeer, says: `"Lap": give at least 4 characters of its public key`},
		{name: "", err: control.ErrNoPeer, says: `"": give at least 4 characters`},
		{name: "lapt", err: control.ErrNoPeer, says: "lapt"},
		{name: "LaptB", err: control.ErrNoPeer, says: "LaptB"},
		{name: whole + "=", err: control.ErrNoPeer, says: whole + "="},
		{name: keyOf("Nobo").String(), err: control.ErrNoPeer, says: keyOf("Nobo").String()},

		{name: "Twin", err: control.ErrAmbiguous, says: "2 public keys begin with Twin: give more of it"},
		{name: twin.String(), want: twin},
		{name: other.String(), want: other},
		{name: other.String()[:8], want: other},

		// The longest prefix wins, as in WireGuard.
		{name: "10.0.0.2", want: laptop},
		{name: "10.0.0.3", want: office},
		{name: "10.0.0.200", want: twin},
		{name: "10.9.200.1", want: office},
		{name: "192.0.2.1", want: gateway},
		{name: "fd00::2", want: laptop},
		{name: "fd00:0:0:0:0:0:0:2", want: laptop},
		{name: "fd00::3", want: office},
		{name: "2001:db8::1", err: control.ErrNoPeer, says: "2001:db8::1 is in nobody's allowed IPs"}, // 0.0.0.0/0 is IPv4's
		{name: "10.0.0.0/24", err: control.ErrNoPeer, says: "10.0.0.0/24: give one address of it, such as 10.0.0.0"},
	} {
		got, err := p.resolve(peers, test.name)
		if got != test.want || !errors.Is(err, test.err) {
			t.Errorf("%q: %s, %v; want %s, %v", test.name, got, err, test.want, test.err)
		}
		if err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%q: error %v, want one that says %s", test.name, err, test.says)
		}
	}
}

func TestResolveAmongNobody(t *testing.T) {
	for _, name := range []string{"Lapt", "10.0.0.1", keyOf("Lapt").String()} {
		if _, err := newPolicy(Options{}).resolve(nil, name); !errors.Is(err, control.ErrNoPeer) {
			t.Errorf("%s: error %v, want ErrNoPeer", name, err)
		}
	}
}

// Bug 6: an exclusion compared a CIDR string with an address and never matched.
// An address excludes the peer that has it in its allowed IPs, whatever prefix
// that is.
func TestBug06AddressExcludesItsPeer(t *testing.T) {
	router, host := keyOf("Rout"), keyOf("Host")
	peers := peersOf(t, map[lazy.Key]string{router: "10.9.0.0/16 fd09::/64", host: "10.0.0.2/32"})
	for address, want := range map[string]lazy.Key{
		"10.9.200.1": router, "10.9.0.0": router, "fd09::7": router, "10.0.0.2": host,
	} {
		excluded, err := newPolicy(Options{Exclude: []string{address}}).excludedNames(peers, nil)
		if err != nil || len(excluded) != 1 || excluded[address] != want {
			t.Errorf("%s excludes %v, %v; want %s", address, excluded, err, want)
		}
	}
	// What names nobody is said, not ignored.
	for _, name := range []string{"10.0.0.3", "10.9.0.0/16", "10.0.0.2/32"} {
		if excluded, err := newPolicy(Options{Exclude: []string{name}}).excludedNames(peers, nil); err == nil {
			t.Errorf("%s is accepted, and excludes %v", name, excluded)
		}
	}
}

// TestExcludedNames has the peers of an interface replaced, and with them whom a name means.
func TestExcludedNames(t *testing.T) {
	first, second := keyOf("Frst"), keyOf("Scnd")
	p := newPolicy(Options{Exclude: []string{"10.0.0.1", far.String()}})
	var names map[string]lazy.Key
	for _, step := range []struct {
		peers map[lazy.Key]string
		want  lazy.Key
		fails bool
	}{
		{map[lazy.Key]string{}, lazy.Key{}, true},
		{map[lazy.Key]string{first: "10.0.0.1/32"}, first, false},
		{map[lazy.Key]string{first: "10.0.0.3/32"}, first, false}, // for want of another
		{map[lazy.Key]string{first: "10.0.0.3/32", second: "10.0.0.0/24"}, second, false},
		{map[lazy.Key]string{}, second, false},
		{map[lazy.Key]string{first: "10.0.0.1/32", second: "10.0.0.0/24"}, first, false},
	} {
		var err error
		names, err = p.excludedNames(peersOf(t, step.peers), names)
		if names["10.0.0.1"] != step.want || (err != nil) != step.fails {
			t.Errorf("with %v: it means %s, %v; want %s", step.peers, names["10.0.0.1"], err, step.want)
		}
		if names[far.String()] != far {
			t.Errorf("with %v: a key means %s", step.peers, names[far.String()])
		}
	}
}
