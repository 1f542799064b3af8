// SPDX-License-Identifier: Apache-2.0

package top

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/lazybpf/lazybpf/pkg/control"
)

// TestGatherEvents has a burst of events, which is one message, and a later one.
func TestGatherEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := make(chan control.Event)
		begin := time.Now()
		go func() {
			defer close(events)
			for range 1000 {
				events <- control.Event{}
			}
			time.Sleep(time.Second)
			events <- control.Event{}
		}()
		var sizes []int
		var times []time.Duration
		gatherEvents(events, func(msg tea.Msg) {
			sizes = append(sizes, len(msg.(eventsMsg)))
			times = append(times, time.Since(begin))
		})
		if !slices.Equal(sizes, []int{1000, 1}) || !slices.Equal(times, []time.Duration{gather, time.Second}) {
			t.Errorf("messages of %v events after %v", sizes, times)
		}
	})
}
