// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// Journal is a file with the keepalives that peers have without lazybpf. It is
// there while a daemon runs, and after one that did not end cleanly.
type Journal string

// Save replaces what the journal says, whole or not at all.
func (j Journal) Save(originals map[lazy.Key]time.Duration) error {
	entries := make(map[string]string, len(originals))
	for key, interval := range originals {
		entries[key.String()] = interval.String()
	}
	content, err := json.MarshalIndent(entries, "", "\t")
	if err != nil {
		return err
	}
	next, err := os.CreateTemp(filepath.Dir(string(j)), filepath.Base(string(j))+".*")
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	_, err = next.Write(append(content, '\n'))
	err = errors.Join(err, next.Close())
	if err == nil {
		err = os.Rename(next.Name(), string(j))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write journal: %w", err), os.Remove(next.Name()))
	}
	return nil
}

// Load returns what the journal says; nothing if there is none.
func (j Journal) Load() (map[lazy.Key]time.Duration, error) {
	content, err := os.ReadFile(string(j))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	var entries map[string]string
	if err := json.Unmarshal(content, &entries); err != nil {
		return nil, fmt.Errorf("journal %s: %w; remove it to do without", j, err)
	}
	originals := make(map[lazy.Key]time.Duration, len(entries))
	for text, interval := range entries {
		key, keyErr := lazy.ParseKey(text)
		d, err := time.ParseDuration(interval)
		if err := errors.Join(keyErr, err); err != nil {
			return nil, fmt.Errorf("journal %s: %w; remove it to do without", j, err)
		}
		originals[key] = d
	}
	return originals, nil
}

// Remove removes the journal. That there is none is no error.
func (j Journal) Remove() error {
	if err := os.Remove(string(j)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove journal: %w", err)
	}
	return nil
}

// Restore gives the device's peers the keepalives of the journal, where they
// are off now, and removes it. It returns how many it has changed.
func (j Journal) Restore(device *Device) (int, error) {
	originals, err := j.Load()
	if err != nil {
		return 0, err
	}
	peers, err := device.Peers()
	if err != nil {
		return 0, err
	}
	var changes []Change
	for _, p := range peers {
		if interval := originals[p.Key]; interval != 0 && p.Keepalive == 0 {
			changes = append(changes, Change{Key: p.Key, Keepalive: interval})
		}
	}
	if err := device.Configure(changes...); err != nil {
		return 0, err
	}
	return len(changes), j.Remove()
}
