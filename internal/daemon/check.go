// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lazybpf/lazybpf/internal/wg"
	"github.com/lazybpf/lazybpf/pkg/detect"
)

// Verdict says what a finding means for a daemon.
type Verdict string

// The verdicts.
const (
	OK       Verdict = "ok"
	Degraded Verdict = "degraded" // it can run, with less
	Missing  Verdict = "missing"  // it cannot run
)

// Finding is one thing that a daemon needs or can use.
type Finding struct {
	Verdict Verdict
	Name    string
	Detail  string // how it is, or what to do
}

// Check finds out what this machine can do, and whether a daemon could manage
// the interface, if one is named. It changes nothing.
func Check(iface, bpffs string) []Finding {
	var findings []Finding
	for _, f := range detect.Features() {
		switch {
		case f.Err == nil:
			findings = append(findings, Finding{OK, f.Name, ""})
		case f.Instead != "" && errors.Is(f.Err, detect.ErrUnsupported):
			findings = append(findings, Finding{Degraded, f.Name, fmt.Sprintf("%s; using %s", f.Err, f.Instead)})
		default:
			findings = append(findings, Finding{Missing, f.Name, f.Err.Error()})
		}
	}
	findings = append(findings, checkBPFFS(bpffs))
	if iface != "" {
		findings = append(findings, checkInterface(iface))
	}
	return findings
}

func checkBPFFS(dir string) Finding {
	const name = "bpffs"
	switch err := detect.CheckPinDir(dir); {
	case dir == "":
		return Finding{OK, name, "not wanted"}
	case err != nil:
		return Finding{Degraded, name, fmt.Sprintf("%s; maps are not pinned without", err)}
	}
	return Finding{OK, name, dir}
}

func checkInterface(iface string) Finding {
	name := "interface " + iface
	device, err := wg.Open(iface)
	if err != nil {
		return Finding{Missing, name, explain(iface, err).Error()}
	}
	defer device.Close()
	peers, err := device.Peers()
	if err != nil {
		return Finding{Missing, name, explain(iface, err).Error()}
	}
	detail := fmt.Sprintf("%s, %d peers", device.Kind(), len(peers))
	if len(peers) == 1 {
		detail = strings.TrimSuffix(detail, "s")
	}
	switch err := detect.CheckDevice(iface); {
	case errors.Is(err, detect.ErrBusy):
		detail += "; a lazybpf manages it"
	case err != nil:
		return Finding{Missing, name, explain(iface, err).Error()}
	}
	return Finding{OK, name, detail}
}

// CheckPeers says what of good options is about peers that the interface does
// not have, a line each; the error is one that a daemon would not start with. If
// the interface cannot be read a line says so. It changes nothing.
func CheckPeers(o Options) (notes []string, err error) {
	if o.WGQuick.SaveConfig {
		notes = append(notes, savesConfig)
	}
	for _, peer := range o.Policy.Peers {
		if len(peer.Hook) == 0 {
			continue
		}
		if err := unix.Access(peer.Hook[0], unix.X_OK); err != nil {
			notes = append(notes, fmt.Sprintf("hook of peer %s: %s: %s", peer.Name, peer.Hook[0], err))
		}
	}
	if len(o.Exclude) == 0 && len(o.Policy.Peers) == 0 {
		return notes, nil
	}
	peers, err := peersToBe(o)
	if err != nil {
		note := fmt.Sprintf("peers were not looked for on the interface: %s", explain(o.Interface, err))
		return append(notes, note), nil
	}
	p := newPolicy(o)
	_, err = p.excludedNames(peers, nil)
	for _, peer := range o.Policy.Peers {
		if !peers.has(peer.Key) {
			notes = append(notes, fmt.Sprintf("peer %s: no peer of the interface has this key yet: %s", peer.Name, peer.Key))
		}
	}
	return notes, err
}

// peersToBe are the peers of an interface, with those that a daemon has evicted.
func peersToBe(o Options) (roster, error) {
	device, err := wg.Open(o.Interface)
	if err != nil {
		return nil, err
	}
	defer device.Close()
	peers, err := device.Peers()
	if err != nil {
		return nil, err
	}
	evicted := wg.NewEvictedFile(EvictedOf(o.Control))
	if err := evicted.Load(device); err != nil {
		return nil, err
	}
	return newRoster(append(peers, evicted.Peers()...)), nil
}
