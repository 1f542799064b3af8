// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// slow is a wireguard-go that takes its time.
type slow struct {
	reads, configures time.Duration // each takes so long
	calls             []int         // the peers of each; 0: a reading
}

// device is one that the slow one has.
func (s *slow) device(of client) *Device {
	return newDevice(patientClient{fakeClient{
		device: func(name string) (*wgtypes.Device, error) {
			s.calls = append(s.calls, 0)
			time.Sleep(s.reads)
			return of.Device(name)
		},
		configure: func(name string, config wgtypes.Config) error {
			s.calls = append(s.calls, len(config.Peers))
			time.Sleep(s.configures)
			return of.ConfigureDevice(name, config)
		},
	}, &patience{answer: AnswerTime}})
}

// pass waits until a time is over, and whatever came of it.
func pass(duration time.Duration) {
	time.Sleep(duration)
	synctest.Wait()
}

// expectAfter fails the test unless a call ends with an error, or nil, after a time.
func expectAfter(t *testing.T, what string, want error, after time.Duration, call func() error) {
	t.Helper()
	begin := time.Now()
	err := call()
	// A reading that took no time counts as one of a nanosecond.
	if took := time.Since(begin).Round(time.Millisecond); !errors.Is(err, want) || took != after {
		t.Errorf("%s: %v after %s, want %v after %s", what, err, took, want, after)
	}
}

// TestNoAnswer has a wireguard-go that hangs and goes on.
func TestNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{reads: time.Second}
		d := s.device(newRecorder(t).client())
		read := func() error { _, err := d.Peers(); return err }
		configure := func() error { return d.Configure(Change{Key: keyOf(1)}) }
		expectAfter(t, "read", nil, time.Second, read)
		const limit = AnswerTime + 3*time.Second
		for _, call := range []func() error{read, configure} {
			s.reads, s.configures, s.calls = time.Hour, time.Hour, nil
			expectAfter(t, "hangs", ErrNoAnswer, limit, call)
			expectAfter(t, "hangs still", ErrNoAnswer, 0, read)
			expectAfter(t, "hangs still", ErrNoAnswer, 0, configure)
			pass(time.Hour - limit)
			if len(s.calls) != 1 {
				t.Errorf("%d calls were made of one that hangs", len(s.calls))
			}
			s.reads, s.configures = time.Second, 0
			expectAfter(t, "goes on", nil, 0, configure)
			expectAfter(t, "goes on", nil, time.Second, read)
		}
	})
}

// TestLongReading has a device whose reading takes longer than an answer may.
func TestLongReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{reads: 3 * AnswerTime, configures: 3 * AnswerTime} // who configures waits for who reads
		d := s.device(newRecorder(t).client())
		read := func() error { _, err := d.Peers(); return err }
		configure := func() error { return d.Configure(Change{Key: keyOf(1)}) }
		expectAfter(t, "read", nil, s.reads, read)
		expectAfter(t, "configure", nil, s.configures, configure)
		s.reads = time.Second // there are few peers now
		expectAfter(t, "read", nil, s.reads, read)
		expectAfter(t, "configure", ErrNoAnswer, AnswerTime+3*time.Second, configure)
		pass(s.configures)
		s.reads = 3 * AnswerTime // and many again, which nobody could know
		expectAfter(t, "read", ErrNoAnswer, AnswerTime+3*time.Second, read)
		pass(s.reads)
		expectAfter(t, "read again", nil, s.reads, read)
	})
}

// TestManyPeersInSeveralMessages has more peers than go into one message. What was to come after one that fails does not.
func TestManyPeersInSeveralMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{configures: AnswerTime - time.Second}
		d := s.device(newRecorder(t).client())
		changes := make([]Change, 2*chunk+1)
		configure := func() error { return d.Configure(changes...) }
		expectAfter(t, "configure", nil, 3*s.configures, configure)
		if want := []int{chunk, chunk, 1}; !slices.Equal(s.calls, want) {
			t.Errorf("messages of %v peers, want %v", s.calls, want)
		}
		s.calls, s.configures = nil, 2*AnswerTime
		expectAfter(t, "configure", ErrNoAnswer, AnswerTime, configure)
		pass(AnswerTime)
		if len(s.calls) != 1 {
			t.Errorf("%d messages, want one", len(s.calls))
		}
	})
}

// TestDoneLate has a wireguard-go that hangs do what was asked for after nobody waits any more: that is nobody else's doing,
// and keepalives can be given back.
func TestDoneLate(t *testing.T) {
	key := keyOf(1)
	closeAll := func(_ *testing.T, c *Connector) error { return c.CloseAll([]lazy.Key{key}) }
	open := func(t *testing.T, c *Connector) error { return c.Open(t.Context(), key, asked) }
	evict := func(t *testing.T, c *Connector) error { _, err := c.Evict(t.Context(), key); return err }
	policy := func(_ *testing.T, c *Connector) error { c.SetKeepalive(key, new(time.Minute)); return nil }
	recall := func(_ *testing.T, c *Connector) error { _, err := c.Recall(); return err }
	settle := func(_ *testing.T, c *Connector) error { return c.Settle(key) }
	type step = func(*testing.T, *Connector) error
	for name, steps := range map[string][]step{
		"CloseAll":            {closeAll},
		"Close":               {func(t *testing.T, c *Connector) error { return c.Close(t.Context(), key) }},
		"Open":                {closeAll, open},
		"Open of the policy":  {closeAll, policy, open},
		"Settle":              {policy, settle},
		"Evict":               {closeAll, evict},
		"Open of the evicted": {closeAll, evict, policy, open},
		"Recall":              {closeAll, evict, recall},
	} {
		for _, ends := range []bool{false, true} { // the daemon, before wireguard-go goes on
			synctest.Test(t, func(t *testing.T) {
				s := new(slow)
				fake := newFakeDevice(wholePeer(1))
				c := NewConnector(s.device(fake.client()), nil)
				c.EvictTo(NewEvictedFile(filepath.Join(t.TempDir(), "wg0.evicted")))
				c.Adopt(Peer{Key: key, Keepalive: every}, every, true)
				last := len(steps) - 1
				for _, do := range steps[:last] {
					if err := do(t, c); err != nil {
						t.Fatal(err)
					}
				}
				s.configures = 2 * AnswerTime
				want := ErrNoAnswer
				if name == "Evict" {
					want = nil // who may be gone counts as gone
				}
				expectAfter(t, name, want, AnswerTime, func() error { return steps[last](t, c) })
				if ends {
					expectAfter(t, name+", then GiveBack", ErrNoAnswer, 0, c.GiveBack)
					if got := c.Owed(); got != 1 {
						t.Errorf("%s: %d peers are still to be given back", name, got)
					}
				}
				pass(2 * AnswerTime)
				s.configures = 0
				all, err := c.device.Peers()
				if err != nil {
					t.Fatal(err)
				}
				if !ends && len(observe(t, c, time.Now(), all)) > 0 {
					t.Errorf("%s: what was done late is taken for that of others", name)
				}
				if err := c.GiveBack(); err != nil || c.Owed() > 0 {
					t.Errorf("%s: %v, %d peers", name, err, c.Owed())
				}
				expectWhole(t, fake, 1)
			})
		}
	}
}
