// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	logtest "github.com/sirupsen/logrus/hooks/test"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/internal/config"
	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/internal/wg"
	"github.com/lazybpf/lazybpf/pkg/control"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// down takes Here's interface away.
func down(t *testing.T, n *lab.Network) {
	t.Helper()
	if err := n.Down(); err != nil {
		t.Fatal(err)
	}
}

// up makes it again, with these peers, or There without any.
func up(t *testing.T, n *lab.Network, peers ...wgtypes.PeerConfig) {
	t.Helper()
	if err := n.Up(nil, peers...); err != nil {
		t.Fatal(err)
	}
}

// look does what the daemon does after a change of links.
func look(t *testing.T, d *Daemon) {
	t.Helper()
	w := watcher{Daemon: d, due: time.Now().Add(time.Hour)}
	w.look(t.Context())
}

func expectFiles(t *testing.T, d *Daemon, want ...string) {
	t.Helper()
	var got []string
	for name := range files(t, d.options) {
		got = append(got, name)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
}

// logged are the messages of a log, but for those on the way.
func logged(log *logtest.Hook) []string {
	var messages []string
	for _, e := range log.AllEntries() {
		messages = append(messages, e.Level.String()+" "+e.Message)
	}
	return messages
}

const (
	saysStarted = "info started"
	saysGone    = "warning interface is gone: waiting until it is there again"
	saysAgain   = "info interface is there again"
)

func expectLogged(t *testing.T, log *logtest.Hook, want ...string) {
	t.Helper()
	if got := logged(log); !slices.Equal(got, want) {
		t.Errorf("logged:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestGone has the interface go, and looks at what there is to see meanwhile.
func TestGone(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{Keepalive: every})
	options := optionsFor(t, n)
	options.BPFFS = "/sys/fs/bpf"
	log := logtest.NewLocal(options.Log)
	read := options
	options.Read = func() (Options, error) { return read, nil }
	d := manage(t, options)
	pins := PinDir(options.BPFFS, n.Here.Name)
	if _, err := os.Stat(filepath.Join(pins, "peers")); err != nil {
		t.Error(err)
	}
	watched, err := net.InterfaceByName(n.Here.Name)
	if err != nil {
		t.Fatal(err)
	}
	before, err := backend{d}.Status(t.Context(), control.Filter{})
	if err != nil {
		t.Fatal(err)
	}

	down(t, n)
	for range 3 {
		look(t, d)
	}
	expectLogged(t, log, saysStarted, saysGone)
	status, err := backend{d}.Status(t.Context(), control.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	if status.Attach != "" || len(status.Peers) > 0 || status.Counts != (control.Counts{}) || status.Interface != n.Here.Name ||
		status.InactivityThreshold != before.InactivityThreshold || !status.Since.After(before.Since) || !recent(status.Since) {
		t.Errorf("status %+v", status)
	}
	b := backend{d}
	for verb, do := range map[string]func(context.Context, []string) ([]control.Result, error){
		"wake": b.Wake, "sleep": b.Sleep, "exclude": b.Exclude, "include": b.Include,
		"status": func(ctx context.Context, names []string) ([]control.Result, error) {
			_, err := b.Status(ctx, control.Filter{Peers: names})
			return nil, err
		},
	} {
		_, err := do(t.Context(), []string{there(n).String()})
		if want := n.Here.Name + ": interface is gone: its peers are managed again once it is there"; !errors.Is(err, control.ErrNoInterface) ||
			err.Error() != want {
			t.Errorf("%s: error %v, want %s", verb, err, want)
		}
	}
	if got := d.summary(); got != "the interface is gone" {
		t.Errorf("systemd hears %q", got)
	}
	if told, err := d.snapshot(); told.Managed || err != nil {
		t.Errorf("Prometheus sees %+v, error %v", told, err)
	}
	expectFiles(t, d, "wg0.sock")
	if _, err := os.Stat(pins); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("pins are left: %v", err)
	}
	if _, err := net.InterfaceByName("lazy" + strconv.Itoa(watched.Index)); err == nil {
		t.Error("the parking device is left")
	}

	// What is configured meanwhile is for the next time.
	read.InactivityThreshold = time.Hour
	read.Exclude = []string{n.There.IPv4.String()}
	if err := d.Reload(); err != nil {
		t.Fatal(err)
	}
	up(t, n)
	look(t, d)
	expectState(t, d, there(n), control.StateConnected)
	status, err = backend{d}.Status(t.Context(), control.Filter{})
	if err != nil || status.Attach != before.Attach || status.InactivityThreshold != "1h0m0s" || status.Counts != (control.Counts{Permanent: 1}) {
		t.Errorf("status %+v, %v", status, err)
	}
	if _, err := os.Stat(filepath.Join(pins, "peers")); err != nil {
		t.Error(err)
	}
	if !parkingDevice(t, n) {
		t.Error("the new interface has no parking device")
	}
	expectFiles(t, d, "wg0.journal", "wg0.sock")
	expectLogged(t, log, saysStarted, saysGone, "info configuration read again", saysAgain)

	down(t, n)
	look(t, d)
	stop(t, d)
	expectFiles(t, d)
}

// TestAgainAtOnce has the interface go and come between two looks, again and again: each time it is another one, with other
// peers, which starts as at first.
func TestAgainAtOnce(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{Keepalive: every})
	add(t, n, far, "10.98.0.0/24")
	options := optionsFor(t, n)
	options.Exclude = []string{"10.98.0.1"}
	log := logtest.NewLocal(options.Log)
	d := manage(t, options)
	expectState(t, d, far, control.StateConnected)
	do(t, backend{d}.Exclude, there(n).String())
	want := []string{saysStarted}

	// Who is excluded by hand is so by key, who by address is whoever has the address.
	other := keyOf("Othr")
	for _, peers := range []map[lazy.Key]string{
		{there(n): n.There.IPv4.String() + "/32", other: "10.98.0.0/24", far: "10.99.0.0/24"},
		{there(n): n.There.IPv4.String() + "/32", other: "10.99.0.0/24", far: "10.98.0.0/24"},
		{other: "10.98.0.0/24"},
	} {
		var configs []wgtypes.PeerConfig
		journal := make(map[lazy.Key]time.Duration)
		for key, prefix := range peers {
			configs = append(configs, peerOf(t, key, prefix))
			journal[key] = every
		}
		down(t, n)
		up(t, n, configs...)
		look(t, d)
		want = append(want, saysGone, saysAgain)
		for _, key := range []lazy.Key{there(n), other, far} {
			prefix, isThere := peers[key]
			p := statusOf(t, d, key)
			if isThere != (p != nil) {
				t.Errorf("with %v: %s: %+v", peers, key, p)
			} else if permanent := key == there(n) || prefix == "10.98.0.0/24"; isThere && p.Permanent != permanent {
				t.Errorf("with %v: %+v, want permanent: %v", peers, p, permanent)
			}
		}
		expectJournal(t, d, journal)
	}
	expectLogged(t, log, want...)
}

// TestPeersComeLater has the interface there before its peers are, as with wg-quick.
func TestPeersComeLater(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	add(t, n, far, "10.98.0.0/24")
	options := optionsFor(t, n)
	options.Exclude = []string{"10.98.0.1", n.There.IPv6.String()}
	log := logtest.NewLocal(options.Log)
	d := manage(t, options)
	down(t, n)
	up(t, n, peerOf(t, far, "10.99.0.0/24"))
	set(t, n, far, wgtypes.PeerConfig{Remove: true})
	look(t, d)
	other := keyOf("Othr")
	add(t, n, other, "10.98.0.0/24")
	add(t, n, there(n), n.There.IPv6.String()+"/128")
	add(t, n, far, "10.99.0.0/24")
	reread(t, d)
	reread(t, d)
	for key, permanent := range map[lazy.Key]bool{there(n): true, other: true, far: false} {
		if p := statusOf(t, d, key); p == nil || p.Permanent != permanent {
			t.Errorf("%s: %+v, want permanent: %v", key, p, permanent)
		}
	}
	expectLogged(t, log, saysStarted, saysGone, saysAgain, "info peers of the interface changed")
}

// TestSocketComesLater has a wireguard-go that is there before it can be configured. What is no obstacle for long is not logged.
func TestSocketComesLater(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{Userspace: true})
	options := optionsFor(t, n)
	log := logtest.NewLocal(options.Log)
	d := manage(t, options)
	w := watcher{Daemon: d}
	want := []string{saysStarted}
	for _, times := range []int{1, 4, 1} {
		down(t, n)
		err := n.Up(func() {
			for range times {
				w.look(t.Context())
			}
			if s, _ := d.now(); s != nil {
				t.Error("a session with what cannot be configured")
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		w.look(t.Context())
		expectState(t, d, there(n), control.StateIdle)
		if wait := time.Until(w.due); wait > followInterval { // its peers may not be complete yet
			t.Errorf("the device is read in %s", wait)
		}
		want = append(want, saysGone)
		if times > 2 {
			want = append(want, "warning cannot manage the interface, trying again")
		}
		want = append(want, saysAgain)
	}
	expectLogged(t, log, want...)
}

// TestSocketGoes has the control socket of wireguard-go go, before its interface does, or without it.
func TestSocketGoes(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{Userspace: true})
	d := manage(t, optionsFor(t, n))
	path := "/var/run/wireguard/" + n.Here.Name + ".sock"
	for range 2 {
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
		w := watcher{Daemon: d} // a reading is due
		w.look(t.Context())
		if s, _ := d.now(); s != nil {
			t.Error("a session with what cannot be read")
		}
		if err := os.Rename(path+".away", path); err != nil {
			t.Fatal(err)
		}
		w.look(t.Context())
		expectState(t, d, there(n), control.StateIdle)
	}
}

// TestGoneWhileOpening has a peer that is being looked for, whose packets wait, when its interface goes.
func TestGoneWhileOpening(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	options := optionsFor(t, n)
	options.Policy.Peers = []config.Peer{{Name: "vm", Key: there(n), Hook: []string{"/bin/sleep", "1000"}}}
	d := manage(t, options)
	for round := range uint64(2) {
		woken := make(chan []control.Result, 1)
		go func() {
			results, err := backend{d}.Wake(t.Context(), []string{"vm"})
			if err != nil {
				t.Error(err)
			}
			woken <- results
		}()
		expectState(t, d, there(n), control.StateConnecting)
		conn, err := n.Here.DialUDP(netip.AddrPortFrom(n.There.IPv4, 7))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := conn.Write([]byte("held")); err != nil {
				t.Fatal(err)
			}
		}
		conn.Close()
		soon(t, "packets are held", func() bool { return statusOf(t, d, there(n)).Held == 3 })
		down(t, n)
		look(t, d)
		if results := <-woken; len(results) != 1 || results[0].Error != "it was removed from the interface" {
			t.Errorf("who waits for it hears %+v", results)
		}
		// What they were goes on being counted, and nothing of them waits.
		s, err := d.snapshot()
		if held := 3 * (round + 1); err != nil || s.Held != held || s.Dropped != held || s.Replayed != 0 {
			t.Errorf("snapshot %+v, %v; want %d held and dropped", s, err, held)
		}
		up(t, n)
		look(t, d)
		p := statusOf(t, d, there(n))
		if p == nil || p.State != control.StateIdle || p.Held != 0 || p.LastError != "" || p.RetryAt != nil || p.LastWake != nil {
			t.Errorf("the peer of another interface: %+v", p)
		}
	}
}

// TestEventsGoOn has somebody follow a daemon whose interface goes and comes: its peers are removed and added.
func TestEventsGoOn(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	d := manage(t, optionsFor(t, n))
	ctx, cancel := context.WithCancel(t.Context())
	events, ended := make(chan control.Event, 100), make(chan error, 1)
	begun := make(chan struct{})
	go func() {
		begin := func() error { close(begun); return nil }
		ended <- backend{d}.Events(ctx, begin, func(e control.Event) error { events <- e; return nil })
	}()
	<-begun
	next := func(from, to string) {
		t.Helper()
		if e := <-events; e.From != from || e.To != to || e.PublicKey != there(n).String() || e.Interface != n.Here.Name {
			t.Errorf("event %+v, want one from %q to %q", e, from, to)
		}
	}
	for range 3 {
		down(t, n)
		look(t, d)
		next(control.StateIdle, "")
		up(t, n)
		look(t, d)
		next("", control.StateIdle)
	}
	do(t, backend{d}.Wake, there(n).String())
	next(control.StateIdle, control.StateConnecting)
	next(control.StateConnecting, control.StateConnected)
	// Between two looks.
	down(t, n)
	up(t, n)
	look(t, d)
	next(control.StateConnected, "")
	next("", control.StateIdle)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
	if len(events) > 0 || len(d.feeds) != 1 {
		t.Errorf("%d events and %d feeds are left", len(events), len(d.feeds))
	}
}

// TestFeedOfTheSlow has a reader for whom everything goes too fast: it misses what has come and gone meanwhile.
func TestFeedOfTheSlow(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	d := manage(t, optionsFor(t, n))
	feed, err := d.subscribe()
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		down(t, n)
		up(t, n)
		look(t, d)
	}
	enough := errors.New("enough")
	var seen []string
	err = feed.each(t.Context(), func(c lazy.Change) error {
		seen = append(seen, c.From.String()+" to "+c.To.String())
		if c.From == 0 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || len(seen) != 1 {
		t.Errorf("seen %q, %v", seen, err)
	}
	d.unsubscribe(feed)
}

// TestStartInterrupted has somebody end a daemon while it starts.
func TestStartInterrupted(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{Keepalive: every})
	add(t, n, far, "10.98.0.0/24")
	options := optionsFor(t, n)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := New(ctx, options); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
	if left := files(t, options); len(left) > 0 || parkingDevice(t, n) {
		t.Errorf("left: files %v, parking device: %v", left, parkingDevice(t, n))
	}
	for _, key := range []lazy.Key{there(n), far} {
		if got := keepaliveOf(t, n, key); got != every {
			t.Errorf("keepalive %s, before %s", got, every)
		}
	}
}

// TestReadingRests has readings of a device take long, or only one of them: then it was a wireguard-go that hung.
func TestReadingRests(t *testing.T) {
	// Not beside others, whose CPU time would count.
	const long = 500 * time.Millisecond
	n := labtest.Network(t, lab.Options{Userspace: true})
	d := manage(t, optionsFor(t, n))
	var takes atomic.Int64
	intercept(t, n, func() bool { time.Sleep(time.Duration(takes.Load())); return true })
	w := newWatcher(d)
	rests := func(taken time.Duration) time.Duration {
		takes.Store(int64(taken))
		w.due = time.Now()
		w.look(t.Context())
		return time.Until(w.due)
	}
	for i, step := range []struct {
		takes time.Duration
		rests bool
	}{{long, true}, {long, true}, {0, false}, {long, false}, {long, true}} {
		if rest := rests(step.takes); (rest > followShare*long/2) != step.rests {
			t.Errorf("step %d: the next reading is in %s", i, rest)
		}
	}
}

// TestStartInterruptedWhileReading has a device that does not answer.
func TestStartInterruptedWhileReading(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{Userspace: true})
	options := optionsFor(t, n)
	release := stall(t, n)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := New(ctx, options)
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
	release()
	if left := files(t, options); len(left) > 0 || parkingDevice(t, n) {
		t.Errorf("left: files %v, parking device: %v", left, parkingDevice(t, n))
	}
}

// TestStartWhileReplaced has another interface take the name while the daemon begins with the first: it is not managed as if
// it were that one.
func TestStartWhileReplaced(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{Userspace: true})
	name := n.Here.Name
	labtest.TUN(t, name+"b")
	var asked atomic.Int32
	intercept(t, n, func() bool {
		if asked.Add(1) == 2 { // it is found, and being read
			labtest.Rename(t, name, name+"a")
			labtest.Rename(t, name+"b", name)
		}
		return true
	})
	options := optionsFor(t, n)
	if _, err := New(t.Context(), options); !errors.Is(err, wg.ErrNoDevice) {
		t.Errorf("error %v, want that there is no such device", err)
	}
	if left := files(t, options); len(left) > 0 || parkingDevice(t, n) {
		t.Errorf("left: files %v, parking device: %v", left, parkingDevice(t, n))
	}
}

// TestAnotherDaemonTakesIt has another daemon begin with the interface when it is there again: that is logged once.
func TestAnotherDaemonTakesIt(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	options := optionsFor(t, n)
	log := logtest.NewLocal(options.Log)
	d := manage(t, options)
	down(t, n)
	look(t, d)
	up(t, n)
	other := manage(t, optionsFor(t, n))
	w := watcher{Daemon: d}
	for range 4 {
		w.look(t.Context())
	}
	stop(t, other)
	w.look(t.Context())
	expectState(t, d, there(n), control.StateIdle)
	expectLogged(t, log, saysStarted, saysGone, "warning cannot manage the interface, trying again", saysAgain)
	if err := log.AllEntries()[2].Data["error"].(error); !strings.Contains(err.Error(), "another lazybpf manages "+n.Here.Name) {
		t.Errorf("error %v", err)
	}
}

// TestLinks has the kernel tell of an interface that comes and goes, and asks for its index.
func TestLinks(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	l, err := openLinks()
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	index := func() int {
		t.Helper()
		index, err := l.index(n.Here.Name)
		if err != nil {
			t.Fatal(err)
		}
		return index
	}
	first := index()
	down(t, n)
	<-l.changed
	if got := index(); got != 0 {
		t.Errorf("index %d of what is gone", got)
	}
	up(t, n)
	<-l.changed
	if got := index(); got == 0 || got == first {
		t.Errorf("index %d, and %d the first time", got, first)
	}
}
