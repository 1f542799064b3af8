// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"errors"
	"runtime"
	"sync"
	"testing"
)

func TestClose(t *testing.T) {
	onEachHook(t, func(t *testing.T, hook Attach) {
		w := newTunnel(t, Options{Attach: hook})
		p := w.newPeer()
		var closers sync.WaitGroup
		for range 4 {
			closers.Go(func() {
				if err := w.d.Close(); err != nil {
					t.Error("Close:", err)
				}
				// Whoever closes may rely on it.
				w.dev.expectAttached()
			})
		}
		closers.Wait()
		if event, ok := <-w.d.Events(); ok {
			t.Errorf("event %+v", event)
		}
		failures := methods(w.d.Detector, p.id)
		_, failures["Add"] = w.d.Add(nil)
		_, failures["Stats"] = w.d.Stats()
		failures["SetInterfaceRules"] = w.d.SetInterfaceRules(nil)
		failures["Pin"] = w.d.Pin("/sys/fs/bpf/closed")
		for method, err := range failures {
			if !errors.Is(err, ErrClosed) {
				t.Errorf("%s: %v", method, err)
			}
		}
		if got := w.d.Attached(); got != map[Attach]string{AttachTCX: "tcx", AttachClsact: "clsact"}[hook] {
			t.Errorf("was attached by %q", got)
		}
	})
}

// TestCloseWithoutDevice removes the device first, as wg-quick may.
func TestCloseWithoutDevice(t *testing.T) {
	onEachHook(t, func(t *testing.T, hook Attach) {
		w := newTunnel(t, Options{Attach: hook})
		p := w.newHeld()
		w.send(p.v4, "for nobody")
		w.park()
		w.dev.remove()
		w.d.mustOpen(p.id)
		w.expectHeld(p, Activity{Held: 1, Dropped: 1})
		if err := w.d.Close(); err != nil {
			t.Error("Close:", err)
		}
	})
}

// TestCloseSendsHeld closes the detector before it opens anything. Some packets
// are in their queues, some on the parking device.
func TestCloseSendsHeld(t *testing.T) {
	onEachHook(t, func(t *testing.T, hook Attach) {
		w := newTunnel(t, Options{Attach: hook})
		first, second := w.newHeld(), w.newHeld()
		w.send(first.v4, "one", "two")
		w.send(second.v6, "three")
		w.park()
		resume := w.pause()
		w.send(first.v4, "four")
		closed := make(chan error)
		go func() { closed <- w.d.Close() }()
		for len(w.d.parking.tasks) == 0 {
			runtime.Gosched()
		}
		resume()
		if err := <-closed; err != nil {
			t.Fatal(err)
		}
		w.send(second.v4, "five")
		w.dev.expect("one", "two", "four", "three", "five")
	})
}
