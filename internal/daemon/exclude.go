// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"maps"
	"slices"

	"github.com/lazybpf/lazybpf/internal/wg"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// exclude makes those peers of a session permanent that are to be so: by the
// policy, but for what was said by hand. The caller holds Daemon.applying.
func (s *session) exclude() error {
	list := make(map[lazy.Key]bool)
	for key, peer := range s.d.policy.Load().peers {
		list[key] = peer.Excluded
	}
	for _, key := range s.d.named {
		list[key] = true
	}
	maps.Copy(list, s.d.byHand)
	maps.DeleteFunc(list, func(_ lazy.Key, excluded bool) bool { return !excluded })
	_, err := s.manager.SetExcluded(slices.Collect(maps.Keys(list)))
	return err
}

// excludeAtStart makes the exclude list, before the manager has any peers. A
// name that means nobody is an error when the daemon starts; when the interface
// is there again its peers may come after it.
func (s *session) excludeAtStart(peers []wg.Peer) error {
	names, err := s.d.policy.Load().excludedNames(newRoster(peers), nil)
	if err != nil && s.d.named == nil {
		return err
	}
	s.d.named = names
	return s.exclude()
}

// excludeNamed has names mean whom they mean among these peers.
func (s *session) excludeNamed(known roster) error {
	names, _ := s.d.policy.Load().excludedNames(known, s.d.named)
	if maps.Equal(names, s.d.named) {
		return nil
	}
	s.d.named = names
	return s.exclude()
}
