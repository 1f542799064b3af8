// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"

	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// door is a connector behind which peers wait to be opened until the test lets them.
type door struct {
	lazy.Connector
	opening chan struct{} // has an element for each peer that waits
	open    chan struct{} // closed by the test
}

func newDoor() *door { return &door{opening: make(chan struct{}, 1), open: make(chan struct{})} }

// between puts the door before the connector.
func (d *door) between(behind lazy.Connector) lazy.Connector {
	d.Connector = behind
	return d
}

func (d *door) Open(ctx context.Context, peer lazy.Key, wake lazy.Wake) error {
	d.opening <- struct{}{}
	select {
	case <-d.open:
		return d.Connector.Open(ctx, peer, wake)
	case <-ctx.Done():
		return ctx.Err()
	}
}
