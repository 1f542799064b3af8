// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// stuck is a detector that never answers when a peer is added, until it may.
type stuck struct {
	lazy.Detector
	release chan struct{}
}

func (stuck) Events() <-chan detect.Event { return nil }

func (s stuck) Add([]netip.Prefix) (detect.ID, error) {
	<-s.release
	return 0, detect.ErrClosed
}

type noConnector struct{ lazy.Connector }

func TestNotify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		detector := stuck{release: make(chan struct{})}
		m, err := lazy.New(lazy.Options{Detector: detector, Connector: noConnector{}})
		if err != nil {
			t.Fatal(err)
		}
		d := &Daemon{session: &session{manager: m}}
		for _, c := range []lazy.Change{
			{To: lazy.Idle}, {To: lazy.Idle}, {To: lazy.Connected},
			{From: lazy.Idle, To: lazy.Connecting}, {From: lazy.Connected},
		} {
			d.tally.add(c)
		}
		sent := make(chan string, 10)
		expect := func(want ...string) {
			t.Helper()
			synctest.Wait()
			var got []string
			for len(sent) > 0 {
				got = append(got, <-sent)
			}
			if !slices.Equal(got, want) {
				t.Errorf("sent %q, want %q", got, want)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		go keepNotifying(ctx, d.summary, 30*time.Second, func(state string) { sent <- state })
		const alive = "WATCHDOG=1\nSTATUS=1 idle, 1 connecting, 0 connected"
		expect("READY=1")
		time.Sleep(firstStatus)
		expect(alive)
		time.Sleep(10 * time.Second) // a third of what systemd waits
		expect(alive)

		added := make(chan struct{})
		go func() { _, _ = m.AddPeer(lazy.Peer{}); close(added) }()
		synctest.Wait()
		time.Sleep(time.Hour)
		expect() // the manager hangs: so systemd must hear nothing
		close(detector.release)
		<-added
		expect(alive)

		cancel()
		expect("STOPPING=1")
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
}
