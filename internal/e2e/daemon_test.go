// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"sync"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/lazybpf/lazybpf/internal/daemon"
	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/pkg/control"
)

// bpffs is where a lab has one of its own.
const bpffs = "/sys/fs/bpf"

// onHere are the options of a daemon for Here's interface, with all that `lazybpf run` has by default.
func onHere(t testing.TB, n *lab.Network) daemon.Options {
	log := logrus.New()
	log.SetOutput(t.Output())
	log.SetLevel(logrus.DebugLevel)
	return daemon.Options{
		Interface: n.Here.Name,
		Control:   control.Path(n.Here.Name),
		BPFFS:     bpffs,
		Log:       log,
	}
}

// running is a daemon at work on Here's interface.
type running struct {
	t       testing.TB
	network *lab.Network
	options daemon.Options
	client  *control.Client
	end     func()
}

// run starts a daemon and stops it when the test ends, if that has not.
func run(t testing.TB, n *lab.Network, options daemon.Options) *running {
	t.Helper()
	d, err := daemon.New(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	r := &running{t: t, network: n, options: options, client: control.NewClient(options.Control)}
	r.end = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error("daemon:", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// stop ends the daemon as SIGTERM does.
func (r *running) stop() { r.end() }

// status is what `lazybpf status` would show.
func (r *running) status() control.Status {
	r.t.Helper()
	status, err := r.client.Status(soon(r.t), control.Filter{})
	if err != nil {
		r.t.Fatal(err)
	}
	return status
}

// find is what the daemon says of a peer, if it has one of that key.
func (r *running) find(key string) (peer control.Peer, found bool) {
	r.t.Helper()
	for _, p := range r.status().Peers {
		if p.PublicKey == key {
			return p, true
		}
	}
	return control.Peer{}, false
}

// there is what the daemon says of There.
func (r *running) there() control.Peer {
	r.t.Helper()
	p, found := r.find(r.network.There.PublicKey.String())
	if !found {
		r.t.Fatal("the daemon does not know There")
	}
	return p
}

// awaitThere waits until There is in that state.
func (r *running) awaitThere(state string) (p control.Peer) {
	r.t.Helper()
	await(r.t, "There is "+state, func() bool {
		p = r.there()
		return p.State == state
	})
	return p
}

// park puts There to sleep.
func (r *running) park() {
	r.t.Helper()
	r.awaitThere(control.StateConnected)
	r.command(r.client.Sleep)
}

// command runs a command on There, which must succeed.
func (r *running) command(do func(context.Context, []string) ([]control.Result, error)) {
	r.t.Helper()
	results, err := do(soon(r.t), []string{r.network.There.PublicKey.String()})
	if err != nil {
		r.t.Fatal(err)
	}
	if results[0].Error != "" {
		r.t.Fatal(results[0].Error)
	}
}

func (r *running) figures() figures {
	r.t.Helper()
	p := r.there()
	f := figures{state: p.State, wakes: p.Wakes, held: p.Held, replayed: p.Replayed, dropped: p.Dropped}
	if p.LastWake != nil {
		f.reason = p.LastWake.Reason
	}
	return f
}
