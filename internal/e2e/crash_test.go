// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/lazybpf/lazybpf/internal/daemon"
	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/pkg/control"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// crash runs lazybpf on a network whose one peer it puts to sleep, and kills it. The peer has no session then. It returns the
// traces that are left: tc filters outlive a process, and let everything pass.
func crash(t *testing.T, n *lab.Network, o order) (left []string) {
	t.Helper()
	o.Interface, o.Control, o.BPFFS = n.Here.Name, control.Path(n.Here.Name), bpffs
	c, ready := startChild(t, o)
	if !ready {
		t.Fatal(c.fails())
	}
	left = onClsact
	if !o.Clsact { // parts put all peers to sleep by themselves
		client := control.NewClient(o.Control)
		left = leftBy(t, client)
		results, err := client.Sleep(soon(t), []string{n.There.PublicKey.String()})
		if err != nil || results[0].State != control.StateIdle {
			t.Fatalf("%+v, error %v", results, err)
		}
	}
	awaitKeepalive(t, n, 0)
	if err := n.ForgetSessions(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond) // as ForgetSessions says
	c.kill()
	return left
}

// leftBy are the traces that a daemon will leave in a crash.
func leftBy(t *testing.T, client *control.Client) []string {
	t.Helper()
	status, err := client.Status(soon(t), control.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	if status.Attach == "clsact" {
		return slices.Concat(inFiles, onClsact)
	}
	return inFiles
}

// recovery is how soon after a crash the network must work: much sooner than WireGuard tries a handshake again, which is after
// 5 s, and much later than it takes.
const recovery = 3 * time.Second

// TestCrash kills lazybpf with SIGKILL while a peer sleeps. Nobody does anything about it, and the network works.
func TestCrash(t *testing.T) {
	for name, clsact := range map[string]bool{"daemon": false, "clsact": true} {
		for modeName, mode := range wakeModes {
			t.Run(name+"/"+modeName, func(t *testing.T) {
				n := labtest.Network(t, lab.Options{})
				left := crash(t, n, order{Wake: mode, Clsact: clsact})
				begin := time.Now()
				for pinged := false; !pinged; {
					if time.Since(begin) > recovery {
						t.Fatalf("no reply for %v", recovery)
					}
					ctx, cancel := context.WithTimeout(t.Context(), recovery/10)
					_, err := n.Here.Ping(ctx, n.There.IPv4)
					cancel()
					pinged = err == nil
				}
				t.Logf("works again after %v", time.Since(begin))
				if _, err := n.There.Ping(soon(t), n.Here.IPv6); err != nil {
					t.Error(err)
				}
				checkTraces(t, onHere(t, n), left...)
				if _, err := daemon.Restore(n.Here.Name, control.Path(n.Here.Name), bpffs); err != nil {
					t.Error(err)
				}
				checkTraces(t, onHere(t, n))
			})
		}
	}
}

// TestRestore puts things right by hand after a crash.
func TestRestore(t *testing.T) {
	n := labtest.Network(t, lab.Options{Keepalive: keepalive})
	options := onHere(t, n)
	left := crash(t, n, order{})
	checkTraces(t, options, left...)
	for _, want := range []int{1, 0} { // the second time there is nothing to do
		restored, err := daemon.Restore(options.Interface, options.Control, options.BPFFS)
		if err != nil || restored != want {
			t.Errorf("keepalive given back to %d peers, want %d; error %v", restored, want, err)
		}
		checkTraces(t, options)
		if got := keepaliveOf(t, n.Here, n.There.PublicKey); got != keepalive {
			t.Errorf("keepalive %v, want %v", got, keepalive)
		}
	}
}

// TestRestoreBesideADaemon must not touch what the daemon needs.
func TestRestoreBesideADaemon(t *testing.T) {
	n := labtest.Network(t, lab.Options{Keepalive: keepalive})
	r := run(t, n, onHere(t, n))
	before := traces(t, r.options)
	if _, err := daemon.Restore(r.options.Interface, r.options.Control, r.options.BPFFS); err == nil {
		t.Error("Restore has done something beside a daemon")
	} else {
		checkLine(t, err, "another detector is attached", "stop it first")
	}
	if after := traces(t, r.options); !slices.Equal(after, before) {
		t.Errorf("now there is %q,\nbefore there was %q", after, before)
	}
}

// TestStartAfterACrash finds what the peer had before in the journal, also if the daemon before could not start.
func TestStartAfterACrash(t *testing.T) {
	n := labtest.Network(t, lab.Options{Keepalive: keepalive})
	options := onHere(t, n)
	crash(t, n, order{Wake: lazy.WakeHold})

	wrong := options
	wrong.Exclude = []string{"no such peer"}
	if _, err := daemon.New(t.Context(), wrong); err == nil {
		t.Fatal("a daemon runs that excludes nobody knows whom")
	}

	r := run(t, n, options)
	if got := keepaliveOf(t, n.Here, n.There.PublicKey); got != 0 {
		t.Errorf("keepalive %v of a sleeping peer", got)
	}
	r.command(r.client.Wake)
	awaitKeepalive(t, n, keepalive)
	r.park()
	awaitKeepalive(t, n, 0)
	r.stop()
	checkTraces(t, options)
	awaitKeepalive(t, n, keepalive)
}
