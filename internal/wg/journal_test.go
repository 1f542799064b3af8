// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lazybpf/lazybpf/pkg/lazy"
)

func newJournal(t *testing.T) Journal { return Journal(filepath.Join(t.TempDir(), "wg0.journal")) }

// save makes the journal say that these peers have the usual keepalive.
func save(t *testing.T, j Journal, peers ...lazy.Key) {
	t.Helper()
	left := Record{Peers: make(map[lazy.Key]Keepalive)}
	for _, key := range peers {
		left.Peers[key] = Keepalive{every, every}
	}
	if err := j.Save(left); err != nil {
		t.Fatal(err)
	}
}

func TestJournal(t *testing.T) {
	j := newJournal(t)
	for _, want := range []map[lazy.Key]Keepalive{
		{keyOf(1): {every, every}, keyOf(2): {65535 * time.Second, 0}},
		{keyOf(2): {0, time.Second}},
		{},
	} {
		if err := j.Save(Record{"this one", want}); err != nil {
			t.Fatal(err)
		}
		got, err := j.Load()
		if err != nil {
			t.Fatal(err)
		}
		if got.Interface != "this one" || !maps.Equal(got.Peers, want) {
			t.Errorf("loaded %v, saved %v", got, want)
		}
	}
	info, err := os.Stat(string(j))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	// Removing it again is no error, and nor is there being none.
	if err := errors.Join(j.Remove(), j.Remove()); err != nil {
		t.Error(err)
	}
	if got, err := j.Load(); got.Peers != nil || err != nil {
		t.Errorf("without a file: loaded %v, %v", got, err)
	}
	leaves(t, filepath.Dir(string(j)))
}

// leaves fails the test unless the directory has just these files.
func leaves(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s has %q, want %q", dir, got, want)
	}
}

// TestJournalIsNeverHalf has it read while it is written, as it would be by a daemon that starts after a crash.
func TestJournalIsNeverHalf(t *testing.T) {
	j := newJournal(t)
	all := make(map[lazy.Key]Keepalive)
	for n := range byte(100) {
		all[keyOf(n)] = Keepalive{every, every}
	}
	versions := []Record{{Peers: all}, {Peers: map[lazy.Key]Keepalive{keyOf(1): {every, every}}}}
	if err := j.Save(versions[0]); err != nil {
		t.Fatal(err)
	}
	var writing sync.WaitGroup
	defer writing.Wait()
	writing.Go(func() {
		for n := range 100 {
			if err := j.Save(versions[n%2]); err != nil {
				t.Error(err)
			}
		}
	})
	for range 100 {
		got, err := j.Load()
		if err != nil {
			t.Fatal(err)
		}
		if n := len(got.Peers); n != len(versions[0].Peers) && n != len(versions[1].Peers) {
			t.Fatalf("%d peers, neither the %d of before nor the %d of after", n, len(versions[0].Peers), len(versions[1].Peers))
		}
	}
}

func TestJournalCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	missing := Journal(filepath.Join(dir, "missing", "wg0.journal"))
	if err := missing.Save(Record{}); !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "write journal: ") {
		t.Errorf("no directory: %v", err)
	}
	taken := Journal(filepath.Join(dir, "taken"))
	if err := os.MkdirAll(filepath.Join(string(taken), "by somebody"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := taken.Save(Record{}); err == nil || !strings.HasPrefix(err.Error(), "write journal: ") {
		t.Errorf("in place of a directory: %v", err)
	}
	if _, err := taken.Load(); err == nil || !strings.HasPrefix(err.Error(), "read journal: ") {
		t.Errorf("a directory is read: %v", err)
	}
	if err := taken.Remove(); err == nil || !strings.HasPrefix(err.Error(), "remove journal: ") {
		t.Errorf("a directory is removed: %v", err)
	}
	leaves(t, dir, "taken")
}

func TestBrokenJournal(t *testing.T) {
	key := keyOf(1).String()
	for name, content := range map[string]string{
		"empty":          "",
		"cut off":        `{"peers": {"` + key + `": {"original": "25`,
		"no JSON":        "keepalive 25",
		"another type":   `{"peers": {"` + key + `": 25}}`,
		"another layout": `{"` + key + `": "25s"}`,
		"bad key":        `{"peers": {"` + key[:10] + `": {"original": "25s", "open": "25s"}}}`,
		"bad interval":   `{"peers": {"` + key + `": {"original": "soon", "open": "25s"}}}`,
	} {
		j := newJournal(t)
		if err := os.WriteFile(string(j), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := j.Load()
		if err == nil || !strings.Contains(err.Error(), string(j)) || !strings.HasSuffix(err.Error(), "remove it to do without") {
			t.Errorf("%s: error %v, want one that names the file and what to do", name, err)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error of several lines: %q", name, err)
		}
		r := newRecorder(t)
		if _, restoring := j.Restore(newDevice(r.client())); restoring == nil || len(r.take()) > 0 {
			t.Errorf("%s: restored, %v", name, restoring)
		}
		leaves(t, filepath.Dir(string(j)), "wg0.journal")
	}
}

// TestRestoreAfterPolicy has a daemon die that gave peers another keepalive while they are open.
func TestRestoreAfterPolicy(t *testing.T) {
	j := newJournal(t)
	r := newRecorder(t)
	r.set(0, keyOf(1))
	r.set(10*time.Second, keyOf(2), keyOf(3))
	r.set(time.Minute, keyOf(4)) // somebody has set it meanwhile
	if err := j.Save(Record{Peers: map[lazy.Key]Keepalive{
		keyOf(1): {every, 10 * time.Second}, keyOf(2): {every, 10 * time.Second},
		keyOf(3): {0, 10 * time.Second}, keyOf(4): {every, 10 * time.Second},
	}}); err != nil {
		t.Fatal(err)
	}
	if n, err := j.Restore(newDevice(r.client())); err != nil || n != 3 {
		t.Errorf("%d restored, %v; want 3", n, err)
	}
	if got, want := r.take(), []string{"peer 1 25s, peer 2 25s, peer 3 0s"}; !slices.Equal(got, want) {
		t.Errorf("messages %q, want %q", got, want)
	}
}

// TestJournalOfAnother is of an interface that had the name before.
func TestJournalOfAnother(t *testing.T) {
	j := newJournal(t)
	r := newRecorder(t)
	r.set(0, keyOf(1))
	if err := j.Save(Record{"another", map[lazy.Key]Keepalive{keyOf(1): {every, every}}}); err != nil {
		t.Fatal(err)
	}
	if n, err := j.Restore(newDevice(r.client())); n != 0 || err != nil {
		t.Errorf("%d restored, %v", n, err)
	}
	if got := r.take(); len(got) > 0 {
		t.Errorf("messages %q", got)
	}
	leaves(t, filepath.Dir(string(j)))
}

// TestJournalOfTheDead leaves nothing of a daemon that died while it wrote.
func TestJournalOfTheDead(t *testing.T) {
	j := newJournal(t)
	if err := os.WriteFile(nextOf(string(j)), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	save(t, j, keyOf(1))
	leaves(t, filepath.Dir(string(j)), "wg0.journal")
	if err := os.WriteFile(nextOf(string(j)), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := j.Remove(); err != nil {
		t.Error(err)
	}
	leaves(t, filepath.Dir(string(j)))
}

func TestRestore(t *testing.T) {
	j := newJournal(t)
	r := newRecorder(t)
	r.set(0, keyOf(1), keyOf(2), keyOf(5)) // the fifth never had one
	r.set(time.Minute, keyOf(3))           // somebody has set it meanwhile
	save(t, j, keyOf(1), keyOf(2), keyOf(3), keyOf(4))
	n, err := j.Restore(newDevice(r.client()))
	if err != nil || n != 2 {
		t.Errorf("%d restored, %v; want 2", n, err)
	}
	if got, want := r.take(), []string{"peer 1 25s, peer 2 25s"}; !slices.Equal(got, want) {
		t.Errorf("messages %q, want %q", got, want)
	}
	leaves(t, filepath.Dir(string(j)))

	if n, err := j.Restore(newDevice(r.client())); n != 0 || err != nil {
		t.Errorf("without a journal: %d restored, %v", n, err)
	}
	if got := r.take(); len(got) > 0 {
		t.Errorf("without a journal: messages %q", got)
	}
}

// TestRestoreFails keeps the journal: it is all that knows.
func TestRestoreFails(t *testing.T) {
	j := newJournal(t)
	save(t, j, keyOf(1))
	broken := errors.New("broken")
	r := newRecorder(t)
	r.set(0, keyOf(1))
	r.check = func() error { return broken }
	if n, err := j.Restore(newDevice(r.client())); n != 0 || !errors.Is(err, broken) {
		t.Errorf("%d restored, %v; want the error of the device", n, err)
	}
	if n, err := j.Restore(newDevice(fakeClient{})); n != 0 || !errors.Is(err, ErrNoDevice) {
		t.Errorf("%d restored, %v; want ErrNoDevice", n, err)
	}
	leaves(t, filepath.Dir(string(j)), "wg0.journal")
}
