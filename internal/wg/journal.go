// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// Journal is a file with the keepalives that lazybpf has changed. It is there
// while a daemon runs, and after one that did not end cleanly.
type Journal string

// Record is what a journal says.
type Record struct {
	// Interface is the one that this is about: of another with the same name it
	// says nothing. See Device.ID.
	Interface string                 `json:"interface"`
	Peers     map[lazy.Key]Keepalive `json:"peers"`
}

// Keepalive is what a peer has for one; 0: off.
type Keepalive struct {
	Original time.Duration // without lazybpf
	Open     time.Duration // while lazybpf has the peer open
}

// original is the keepalive that a peer has without lazybpf which was found with
// another: off, or that of an open peer, it was lazybpf that has set it.
func (k Keepalive) original(found time.Duration) time.Duration {
	if found == 0 || found == k.Open {
		return k.Original
	}
	return found
}

// Original is the keepalive that a peer of the device has without lazybpf. What
// a journal says of another interface does not count.
func (r Record) Original(device *Device, p Peer) time.Duration {
	if k, ok := r.Peers[p.Key]; ok && r.Interface == device.ID() {
		return k.original(p.Keepalive)
	}
	return p.Keepalive
}

// Neighbour is the name of the interface that the journal is of, where that is not
// the device and is still there; empty: it needs the journal no more.
func (r Record) Neighbour(device *Device) string { return neighbour(r.Interface, device.ID()) }

// keepaliveText is a Keepalive as the journal has it.
type keepaliveText struct {
	Original string `json:"original"`
	Open     string `json:"open"`
}

// MarshalJSON writes durations as time.Duration.String does.
func (k Keepalive) MarshalJSON() ([]byte, error) {
	return json.Marshal(keepaliveText{k.Original.String(), k.Open.String()})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (k *Keepalive) UnmarshalJSON(content []byte) error {
	var text keepaliveText
	if err := strictly(content, &text); err != nil {
		return err
	}
	var err, openErr error
	k.Original, err = time.ParseDuration(text.Original)
	k.Open, openErr = time.ParseDuration(text.Open)
	if err == nil {
		err = openErr
	}
	return err
}

// strictly decodes JSON that has no keys but those of value.
func strictly(content []byte, value any) error {
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	return decoder.Decode(value)
}

// Save replaces what the journal says, whole or not at all, also if the machine
// loses its power.
func (j Journal) Save(r Record) error {
	content, err := json.MarshalIndent(r, "", "\t")
	if err == nil {
		err = replaceFile(string(j), append(content, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

// Load returns what the journal says; nothing if there is none.
func (j Journal) Load() (Record, error) {
	content, err := os.ReadFile(string(j))
	if errors.Is(err, os.ErrNotExist) {
		return Record{}, nil
	}
	if err != nil {
		return Record{}, fmt.Errorf("read journal: %w", err)
	}
	var r Record
	if err := strictly(content, &r); err != nil {
		return Record{}, fmt.Errorf("journal %s: %w; remove it to do without", j, err)
	}
	return r, nil
}

// Remove removes the journal. That there is none is no error.
func (j Journal) Remove() error {
	if err := errors.Join(removeFile(string(j)), removeFile(nextOf(string(j)))); err != nil {
		return fmt.Errorf("remove journal: %w", err)
	}
	return nil
}

// Restore gives the device's peers the keepalives back that they had, unless
// somebody has set another since, and removes the journal. It returns how many it
// has changed.
func (j Journal) Restore(device *Device) (int, error) {
	r, err := j.Load()
	if err != nil {
		return 0, err
	}
	peers, err := device.Peers()
	if err != nil {
		return 0, err
	}
	var changes []Change
	for _, p := range peers {
		if original := r.Original(device, p); original != p.Keepalive {
			changes = append(changes, Change{Key: p.Key, Keepalive: original})
		}
	}
	if err := device.Configure(changes...); err != nil {
		return 0, err
	}
	return len(changes), j.Remove()
}
