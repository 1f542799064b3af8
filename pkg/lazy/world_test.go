// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/lazybpf/lazybpf/pkg/detect"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(untouched{m}) }

// untouched is tests that fail if a peer has written to what is all peers'.
type untouched struct{ *testing.M }

func (u untouched) Run() int {
	code := u.M.Run()
	if noPast != (past{}) {
		fmt.Fprintf(os.Stderr, "a peer has the past of others: %+v\n", noPast)
		return 1
	}
	return code
}

// threshold is what tests use that need some inactivity threshold.
const threshold = 10 * time.Second

// errRefused is what goes wrong in tests in which something does.
var errRefused = errors.New("refused")

// world is a manager, what it works with, and the test that watches.
type world struct {
	testing.TB
	*Manager
	detector  *fakeDetector
	connector *fakeConnector
}

// newWorld makes a world, to be used within one bubble of synctest. Detector
// and Connector of the options are fakes, the threshold is that of the tests.
func newWorld(t testing.TB, options Options) *world {
	w := &world{TB: t, detector: newFakeDetector(), connector: newFakeConnector(t)}
	options.Detector, options.Connector = w.detector, w.connector
	if options.InactivityThreshold == 0 {
		options.InactivityThreshold = threshold
	}
	var err error
	if w.Manager, err = New(options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.ok(w.Close()) })
	return w
}

// play runs a test in a world of its own, in fake time. It fails if the test
// leaves goroutines behind.
func play(t *testing.T, options Options, test func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(newWorld(t, options)) })
}

// Peers of tests have numbers.

func key(n byte) Key { return Key{n} }

func address(n byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, n}) }

func peerOf(n byte) Peer {
	return Peer{Key: key(n), AllowedIPs: []netip.Prefix{netip.PrefixFrom(address(n), 32)}}
}

// ok fails the test if there is an error.
func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// fails fails the test if the error is another than this one.
func (w *world) fails(err, want error) {
	w.Helper()
	if !errors.Is(err, want) {
		w.Errorf("error is %v, want %v", err, want)
	}
}

// add adds dormant peers.
func (w *world) add(numbers ...byte) {
	w.Helper()
	for _, n := range numbers {
		_, err := w.AddPeer(peerOf(n))
		w.ok(err)
	}
}

// addConnected adds a peer that is connected.
func (w *world) addConnected(n byte) {
	w.Helper()
	w.ok(w.AddActivePeers(peerOf(n)))
}

// send lets a packet to a peer, or from it, pass the device.
func (w *world) send(direction detect.Direction, n byte) {
	w.detector.send(direction, address(n))
	synctest.Wait()
}

// connect wakes a dormant peer by a packet; its connector must not wait.
func (w *world) connect(n byte) {
	w.Helper()
	w.send(detect.Egress, n)
	w.is(n, Connected)
}

// exclude replaces the exclude list.
func (w *world) exclude(numbers ...byte) (added []Key) {
	w.Helper()
	var keys []Key
	for _, n := range numbers {
		keys = append(keys, key(n))
	}
	added, err := w.SetExcluded(keys)
	w.ok(err)
	synctest.Wait()
	return added
}

// status is that of a peer once all that is under way has happened.
func (w *world) status(n byte) Status {
	w.Helper()
	synctest.Wait()
	status, err := w.Peer(key(n))
	w.ok(err)
	return status
}

// is fails the test if the peer is in another state.
func (w *world) is(n byte, want State) {
	w.Helper()
	if got := w.status(n).State; got != want {
		w.Fatalf("peer %d is %s, want %s", n, got, want)
	}
}

// opened fails the test if the connector has had another number of Opens.
func (w *world) opened(n byte, want int) {
	w.Helper()
	w.called("open", n, want)
}

// closed fails the test if the connector has had another number of Closes.
func (w *world) closed(n byte, want int) {
	w.Helper()
	w.called("close", n, want)
}

func (w *world) called(name string, n byte, want int) {
	w.Helper()
	synctest.Wait()
	if got := w.connector.count(name, key(n)); got != want {
		w.Fatalf("peer %d has had %d calls of %s, want %d", n, got, name, want)
	}
}
