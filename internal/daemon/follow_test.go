// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"maps"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/internal/wg"
	"github.com/lazybpf/lazybpf/pkg/control"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// journalOf is which keepalives the journal of a daemon would give back.
func journalOf(t *testing.T, d *Daemon) map[lazy.Key]time.Duration {
	t.Helper()
	left, err := JournalOf(d.options.Control).Load()
	if err != nil {
		t.Fatal(err)
	}
	originals := make(map[lazy.Key]time.Duration)
	for key, k := range left.Peers {
		originals[key] = k.Original
	}
	return originals
}

// leaveJournal writes the journal of a daemon that has died, for an interface that is there now.
func leaveJournal(t *testing.T, control, iface string, peers map[lazy.Key]wg.Keepalive) {
	t.Helper()
	device, err := wg.Open(iface)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	if err := JournalOf(control).Save(wg.Record{Interface: device.ID(), Peers: peers}); err != nil {
		t.Fatal(err)
	}
}

func expectJournal(t *testing.T, d *Daemon, want map[lazy.Key]time.Duration) {
	t.Helper()
	if got := journalOf(t, d); !maps.Equal(got, want) {
		t.Errorf("the journal says %v, want %v", got, want)
	}
}

func TestPeersComeAndGo(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	d := manage(t, optionsFor(t, n))
	expectState(t, d, there(n), control.StateIdle)
	expectJournal(t, d, nil)

	// One more, whose keepalive stands in the journal before it is turned off.
	add(t, n, far, "10.98.0.0/24")
	reread(t, d)
	expectState(t, d, far, control.StateIdle)
	expectKeepalive(t, n, far, 0)
	expectJournal(t, d, map[lazy.Key]time.Duration{far: every})

	// It has other allowed IPs: what is sent to the new ones wakes it.
	set(t, n, far, wgtypes.PeerConfig{ReplaceAllowedIPs: true, AllowedIPs: ipNets(t, "10.98.1.0/24", "10.98.2.0/24")})
	reread(t, d)
	if got, want := statusOf(t, d, far).AllowedIPs, []string{"10.98.1.0/24", "10.98.2.0/24"}; !slices.Equal(got, want) {
		t.Errorf("allowed IPs %q, want %q", got, want)
	}
	if key, err := whoIs(t, d, "10.98.1.7"); key != far || err != nil {
		t.Errorf("10.98.1.7 is %s, %v; want %s", key, err, far)
	}
	if _, err := whoIs(t, d, "10.98.0.7"); err == nil {
		t.Error("10.98.0.7 is still somebody's")
	}

	// It goes, and comes back as it was.
	set(t, n, far, wgtypes.PeerConfig{Remove: true})
	reread(t, d)
	if p := statusOf(t, d, far); p != nil {
		t.Errorf("a removed peer is still there: %+v", p)
	}
	expectJournal(t, d, nil)
	add(t, n, far, "10.98.0.0/24")
	reread(t, d)
	expectState(t, d, far, control.StateIdle)
	expectKeepalive(t, n, far, 0)

	// In the end it has its keepalive back.
	stop(t, d)
	expectKeepalive(t, n, far, every)
}

// TestChangedPrefixWakes has a packet go to a prefix that the peer has only just got.
func TestChangedPrefixWakes(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{ExtraAllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24")}})
	own := ipNets(t, n.There.IPv4.String()+"/32")
	set(t, n, there(n), wgtypes.PeerConfig{ReplaceAllowedIPs: true, AllowedIPs: own})
	d := manage(t, optionsFor(t, n))
	set(t, n, there(n), wgtypes.PeerConfig{AllowedIPs: ipNets(t, "10.9.0.0/24")})
	reread(t, d)
	ping(t, n, netip.MustParseAddr("10.9.0.1"))
	expectState(t, d, there(n), control.StateConnected)
	if flow := statusOf(t, d, there(n)).LastWake.Flow; flow != "icmp "+n.Here.IPv4.String()+" > 10.9.0.1" {
		t.Errorf("woken by %q", flow)
	}
}

// TestMovedPrefix has a prefix go from one peer to another.
func TestMovedPrefix(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	add(t, n, far, "10.98.0.0/24", "10.98.1.0/24")
	d := manage(t, optionsFor(t, n))
	add(t, n, keyOf("Newc"), "10.98.0.0/24") // which takes it from the other, as in WireGuard
	reread(t, d)
	for address, want := range map[string]lazy.Key{"10.98.0.1": keyOf("Newc"), "10.98.1.1": far} {
		if got, err := whoIs(t, d, address); got != want || err != nil {
			t.Errorf("%s is %s, %v; want %s", address, got, err, want)
		}
	}
	if got := statusOf(t, d, far).AllowedIPs; !slices.Equal(got, []string{"10.98.1.0/24"}) {
		t.Errorf("allowed IPs %q of the one that lost it", got)
	}
}

// TestStartsAsItFindsThem has a peer with a session, which stays connected, and one without.
func TestStartsAsItFindsThem(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{Keepalive: every})
	add(t, n, far, "10.98.0.0/24")
	ping(t, n, n.There.IPv4)
	d := manage(t, optionsFor(t, n))
	if got := stateOf(t, d, there(n)); got != control.StateConnected {
		t.Errorf("the one with a session is %s", got)
	}
	if got := stateOf(t, d, far); got != control.StateIdle {
		t.Errorf("the one without is %s", got)
	}
	expectKeepalive(t, n, there(n), every)
	expectKeepalive(t, n, far, 0)
	expectJournal(t, d, map[lazy.Key]time.Duration{there(n): every, far: every})
}

// TestDrift has somebody else set keepalives, as wg syncconf does.
func TestDrift(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{Keepalive: every})
	add(t, n, far, "10.98.0.0/24")
	ping(t, n, n.There.IPv4)
	d := manage(t, optionsFor(t, n))

	theirs := wgtypes.PeerConfig{PersistentKeepaliveInterval: new(40 * time.Second)}
	set(t, n, there(n), theirs)
	set(t, n, far, theirs)
	reread(t, d)
	expectKeepalive(t, n, there(n), 40*time.Second) // it is connected
	expectKeepalive(t, n, far, 0)                   // it sleeps
	expectJournal(t, d, map[lazy.Key]time.Duration{there(n): 40 * time.Second, far: 40 * time.Second})
	if stateOf(t, d, far) != control.StateIdle {
		t.Error("the one that sleeps was woken")
	}

	if _, err := (backend{d}).Wake(t.Context(), []string{far.String()}); err != nil {
		t.Fatal(err)
	}
	expectKeepalive(t, n, far, 40*time.Second)
	reread(t, d)
	expectJournal(t, d, map[lazy.Key]time.Duration{there(n): 40 * time.Second, far: 40 * time.Second})

	// Off is what they may want, too.
	set(t, n, far, wgtypes.PeerConfig{PersistentKeepaliveInterval: new(time.Duration)})
	reread(t, d)
	expectJournal(t, d, map[lazy.Key]time.Duration{there(n): 40 * time.Second})
	stop(t, d)
	expectKeepalive(t, n, there(n), 40*time.Second)
	expectKeepalive(t, n, far, 0)
}

// TestFollowChangesNothing reads a device on which nothing happens: nobody wakes or sleeps, nothing is written.
func TestFollowChangesNothing(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{Keepalive: every})
	d := manage(t, optionsFor(t, n))
	reread(t, d)
	before, err := os.Stat(string(sessionOf(t, d).journal))
	if err != nil {
		t.Fatal(err)
	}
	state, known := stateOf(t, d, there(n)), sessionOf(t, d).peersNow()
	for range 3 {
		reread(t, d)
	}
	after, err := os.Stat(string(sessionOf(t, d).journal))
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, after) {
		t.Error("the journal was written again")
	}
	if got := stateOf(t, d, there(n)); got != state || len(sessionOf(t, d).peersNow()) != len(known) {
		t.Errorf("the peer is %s and was %s", got, state)
	}
}

// TestOriginalsOfTheDead has a daemon start where another died: the keepalives that are off come from its journal.
func TestOriginalsOfTheDead(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	changed := keyOf("Chan")
	add(t, n, far, "10.98.0.0/24")
	add(t, n, changed, "10.98.1.0/24") // somebody has set it since
	policed := keyOf("Poli")           // the dead one had it open
	set(t, n, policed, wgtypes.PeerConfig{PersistentKeepaliveInterval: new(40 * time.Second), AllowedIPs: ipNets(t, "10.98.2.0/24")})
	options := optionsFor(t, n)
	leaveJournal(t, options.Control, n.Here.Name, map[lazy.Key]wg.Keepalive{
		there(n): {Original: 50 * time.Second, Open: time.Minute}, changed: {Original: 50 * time.Second, Open: 50 * time.Second},
		policed:       {Original: 0, Open: 40 * time.Second},
		keyOf("Gone"): {Original: every, Open: every}, // no longer on the interface
	})
	want := map[lazy.Key]time.Duration{there(n): 50 * time.Second, far: every, changed: every}
	d := manage(t, options)
	expectJournal(t, d, want)
	for key := range want {
		expectKeepalive(t, n, key, 0)
	}
	if _, err := (backend{d}).Wake(t.Context(), []string{there(n).String()}); err != nil {
		t.Fatal(err)
	}
	expectKeepalive(t, n, there(n), 50*time.Second)
	stop(t, d)
	for key, keepalive := range want {
		expectKeepalive(t, n, key, keepalive)
	}
	expectKeepalive(t, n, policed, 0)
	if got := journalOf(t, d); len(got) > 0 {
		t.Errorf("after the end the journal says %v", got)
	}
}

// TestReadingCutShort has a reading without peers that are on the device: the kernel ends one early if somebody removes the
// peer that is next.
func TestReadingCutShort(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{Keepalive: every})
	add(t, n, far, "10.98.0.0/24")
	d := manage(t, optionsFor(t, n))
	before := statusOf(t, d, far)
	set(t, n, there(n), wgtypes.PeerConfig{Remove: true})
	if err := sessionOf(t, d).follow(t.Context(), time.Now(), nil, wg.Record{}); err != nil {
		t.Fatal(err)
	}
	if statusOf(t, d, there(n)) != nil {
		t.Error("the one that was removed is still there")
	}
	if p := statusOf(t, d, far); p == nil || p.State != before.State || !slices.Equal(p.AllowedIPs, before.AllowedIPs) {
		t.Errorf("the other: %+v", p)
	}
	if key, err := whoIs(t, d, "10.98.0.1"); key != far || err != nil {
		t.Errorf("10.98.0.1 is %s, %v", key, err)
	}
	reread(t, d)
	expectJournal(t, d, map[lazy.Key]time.Duration{far: every})
}

// TestReloadWithoutExcluded has a peer removed that the exclude list names by its address: a reload is about other things.
func TestReloadWithoutExcluded(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	add(t, n, far, "10.98.0.0/24")
	options := optionsFor(t, n)
	options.Exclude = []string{"10.98.0.7"}
	read := options
	options.Read = func() (Options, error) { return read, nil }
	d := manage(t, options)
	expectState(t, d, far, control.StateConnected)
	set(t, n, far, wgtypes.PeerConfig{Remove: true})
	reread(t, d)
	if statusOf(t, d, far) != nil {
		t.Fatal("it is still there")
	}
	read.InactivityThreshold = time.Hour
	if err := d.Reload(); err != nil {
		t.Error(err)
	}
	add(t, n, far, "10.98.0.0/24")
	reread(t, d)
	if !statusOf(t, d, far).Permanent {
		t.Error("it is back, and not excluded any more")
	}
	read.Exclude = append(read.Exclude, "10.99.0.1")
	if err := d.Reload(); !errors.Is(err, control.ErrNoPeer) {
		t.Errorf("a new name that means nobody: %v", err)
	}
}

// TestExcludedPeerToCome has a public key on the exclude list that is added to the interface later.
func TestExcludedPeerToCome(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	options := optionsFor(t, n)
	options.Exclude = []string{far.String()}
	d := manage(t, options)
	add(t, n, far, "10.98.0.0/24")
	reread(t, d)
	expectState(t, d, far, control.StateConnected)
	if !statusOf(t, d, far).Permanent {
		t.Error("it is not permanent")
	}
	expectKeepalive(t, n, far, every)
	// Gone and back, it is so again.
	set(t, n, far, wgtypes.PeerConfig{Remove: true})
	reread(t, d)
	add(t, n, far, "10.98.0.0/24")
	reread(t, d)
	expectState(t, d, far, control.StateConnected)
	expectKeepalive(t, n, far, every)
}
