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
	originals := make(map[lazy.Key]time.Duration)
	for _, key := range peers {
		originals[key] = every
	}
	if err := j.Save(originals); err != nil {
		t.Fatal(err)
	}
}

func TestJournal(t *testing.T) {
	j := newJournal(t)
	for _, want := range []map[lazy.Key]time.Duration{
		{keyOf(1): every, keyOf(2): 65535 * time.Second},
		{keyOf(2): time.Second},
		{},
	} {
		if err := j.Save(want); err != nil {
			t.Fatal(err)
		}
		got, err := j.Load()
		if err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(got, want) {
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
	if got, err := j.Load(); len(got) > 0 || err != nil {
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
	all := make(map[lazy.Key]time.Duration)
	for n := range byte(100) {
		all[keyOf(n)] = every
	}
	versions := []map[lazy.Key]time.Duration{all, {keyOf(1): every}}
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
		if len(got) != len(versions[0]) && len(got) != len(versions[1]) {
			t.Fatalf("%d peers, neither the %d of before nor the %d of after", len(got), len(versions[0]), len(versions[1]))
		}
	}
}

func TestJournalCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	missing := Journal(filepath.Join(dir, "missing", "wg0.journal"))
	if err := missing.Save(nil); !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "write journal: ") {
		t.Errorf("no directory: %v", err)
	}
	taken := Journal(filepath.Join(dir, "taken"))
	if err := os.MkdirAll(filepath.Join(string(taken), "by somebody"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := taken.Save(nil); err == nil || !strings.HasPrefix(err.Error(), "write journal: ") {
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
		"empty":        "",
		"cut off":      `{"` + key + `": "25`,
		"no JSON":      "keepalive 25",
		"another type": `{"` + key + `": 25}`,
		"bad key":      `{"` + key[:10] + `": "25s"}`,
		"bad interval": `{"` + key + `": "soon"}`,
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
