// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		names  string // what the error names; empty if there is none
		change func(*Options)
	}{
		{"", func(*Options) {}},
		{"", func(o *Options) { o.InactivityThreshold = MinThreshold }},
		{"", func(o *Options) { o.Wake = WakeHold }},
		{"Detector", func(o *Options) { o.Detector = nil }},
		{"Connector", func(o *Options) { o.Connector = nil }},
		{"Wake", func(o *Options) { o.Wake = WakeHold + 1 }},
		{"OpenTimeout", func(o *Options) { o.OpenTimeout = -1 }},
		{"MaxOpens", func(o *Options) { o.MaxOpens = -1 }},
		{"threshold", func(o *Options) { o.InactivityThreshold = MinThreshold - 1 }},
		{"threshold", func(o *Options) { o.InactivityThreshold = -time.Hour }},
	} {
		options := Options{Detector: newFakeDetector(), Connector: newFakeConnector(t)}
		tc.change(&options)
		err := options.Validate()
		switch {
		case tc.names == "" && err != nil:
			t.Errorf("%+v is refused: %v", options, err)
		case tc.names != "" && err == nil:
			t.Errorf("a wrong %s is accepted", tc.names)
		case tc.names != "" && !strings.Contains(err.Error(), tc.names):
			t.Errorf("error does not name %s: %v", tc.names, err)
		}
		if tc.names == "threshold" && !errors.Is(err, ErrThreshold) {
			t.Errorf("%v is no ErrThreshold", err)
		}
		if tc.names != "" {
			if m, err := New(options); err == nil || m != nil {
				t.Errorf("New takes options with a wrong %s", tc.names)
			}
		}
	}
}

// What is documented as default is what happens.
func TestDefaults(t *testing.T) {
	play(t, Options{InactivityThreshold: DefaultThreshold}, func(w *world) {
		m, err := New(Options{Detector: w.detector, Connector: w.connector})
		w.ok(err)
		w.ok(m.Close())
		want := Options{
			Detector: w.detector, Connector: w.connector, InactivityThreshold: 15 * time.Minute,
			Wake: WakePass, OpenTimeout: 30 * time.Second, MaxOpens: 64, WakeBurst: 1,
		}
		if m.options != want {
			w.Errorf("defaults are %+v, want %+v", m.options, want)
		}
		answers := newAnswers(w)
		w.connector.open = answers.deafOpen
		w.addConnected(1)
		w.add(2)
		w.send(detect.Egress, 2)
		time.Sleep(30 * time.Second)
		w.fails(w.backsOff(2, 1).LastError, ErrTimeout)
		w.parksAfter(1, 15*time.Minute-30*time.Second)
	})
}
