// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lazybpf/lazybpf/internal/wg"
)

const (
	// relocateInterval is how often names are looked up of peers that are talked
	// to and do not answer.
	relocateInterval = 30 * time.Second
	relocateAtOnce   = 8
)

// relocation looks up the names of peers that are awake: one that is talked to all
// the time never sleeps, and never wakes, however often its address changes. A name
// server may take long, so this is done beside the session.
type relocation struct {
	begun time.Time // of the one that was begun last; guarded by Daemon.applying
	runs  atomic.Bool
	jobs  sync.WaitGroup

	ctx    context.Context // of the session
	cancel context.CancelFunc
}

func newRelocation() *relocation {
	r := new(relocation)
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// end cancels what runs, and waits for it.
func (r *relocation) end() {
	r.cancel()
	r.jobs.Wait()
}

// relocate looks for peers that do not answer where the device has them, as far as
// somebody sends to them.
func (s *session) relocate(silent []wg.Peer) {
	r := s.relocation
	if time.Since(r.begun) < relocateInterval || r.runs.Load() {
		return
	}
	var missed []wg.Peer
	for _, p := range silent {
		status, err := s.manager.Peer(p.Key)
		if err == nil && time.Since(status.Activity.LastTx) < relocateInterval {
			missed = append(missed, p)
		}
	}
	if len(missed) == 0 {
		return
	}
	r.begun = time.Now()
	r.runs.Store(true)
	r.jobs.Go(func() {
		defer r.runs.Store(false)
		var group errgroup.Group
		group.SetLimit(relocateAtOnce)
		for _, p := range missed {
			group.Go(func() error { s.lookUp(r.ctx, p); return nil })
		}
		_ = group.Wait()
	})
}

// lookUp looks for a peer where its name says.
func (s *session) lookUp(ctx context.Context, p wg.Peer) {
	ctx, cancel := context.WithTimeout(ctx, relocateInterval)
	defer cancel()
	found, err := s.finder.LookUp(ctx, p.Key)
	moved := false
	if err == nil {
		moved, err = s.connector.Move(p.Key, p.Endpoint, found)
	}
	log := s.d.log.WithField("peer", p.Key.String())
	switch {
	case err != nil:
		log.WithError(err).Debug("peer does not answer, and cannot be found elsewhere")
	case moved:
		log.Info("peer does not answer: trying the address that its name has now")
	}
}
