// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/lazybpf/lazybpf/internal/wg"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// evicting is the connector, and logs whom it evicts: an evicted peer is idle
// as it was, and the manager tells nobody.
type evicting struct {
	*wg.Connector
	log *logrus.Entry
}

// Evict logs what came of it.
func (e evicting) Evict(ctx context.Context, peer lazy.Key) (again time.Time, err error) {
	again, err = e.Connector.Evict(ctx, peer)
	log := e.log.WithField("peer", peer.String())
	switch {
	case ctx.Err() != nil: // the daemon stops, or the peer is needed
	case err != nil:
		log.WithError(err).Warn("peer could not be evicted")
	case again.IsZero():
		log.Info("peer evicted")
	default:
		log.WithField("again", again).Debug("peer has a session, and is not evicted yet")
	}
	return again, err
}

// recall puts evicted peers back if nobody is to be evicted any more. They sleep
// on.
func (s *session) recall() error {
	if s.d.policy.Load().options.EvictAfter != 0 {
		return nil
	}
	back, err := s.connector.Recall()
	errs := []error{err}
	for _, key := range back {
		errs = append(errs, s.manager.ReportReturned(key))
	}
	if n := len(back); n > 0 {
		s.d.log.WithField("peers", n).Info("evicted peers are on the interface again: eviction is off")
	}
	return errors.Join(errs...)
}
