// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// load loads a file of a device's.
func load(t *testing.T, path string, device *Device) *EvictedFile {
	t.Helper()
	f := NewEvictedFile(path)
	if err := f.Load(device); err != nil {
		t.Fatal(err)
	}
	return f
}

// away is the n-th peer as it is saved.
func away(n byte) *evicted {
	p := wholePeer(n)
	return &evicted{peerOf(&p), newPresharedKey(p.PresharedKey)}
}

// noDevice is one that only files are asked about.
var noDevice = newDevice(nil)

func sameEvicted(a, b *EvictedFile) bool {
	return maps.EqualFunc(a.live, b.live, func(a, b *evicted) bool {
		return reflect.DeepEqual(a.Peer, b.Peer) && reflect.DeepEqual(a.presharedKey.reveal(), b.presharedKey.reveal())
	})
}

func newEvictedFile(t *testing.T) *EvictedFile {
	return NewEvictedFile(filepath.Join(t.TempDir(), "wg0.evicted"))
}

func TestEvictedFile(t *testing.T) {
	f := newEvictedFile(t)
	bare := &evicted{Peer: Peer{Key: keyOf(3)}}
	if err := f.put(away(1), away(2), bare); err != nil {
		t.Fatal(err)
	}
	if err := f.drop(keyOf(2), keyOf(9)); err != nil {
		t.Fatal(err)
	}
	moved := *away(1)
	moved.AllowedIPs = moved.AllowedIPs[:1]
	if err := f.put(&moved); err != nil {
		t.Fatal(err)
	}
	loaded := load(t, f.path, noDevice)
	if !sameEvicted(loaded, f) || loaded.Len() != 2 || len(loaded.live[keyOf(1)].AllowedIPs) != 1 {
		t.Errorf("loaded\n%+v, want\n%+v", loaded.live, f.live)
	}
	if got := loaded.live[keyOf(1)].presharedKey.reveal(); *got != secretOf(1) {
		t.Error("the preshared key is another")
	}
	info, err := os.Stat(f.path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if err := f.drop(keyOf(1), keyOf(3)); err != nil {
		t.Fatal(err)
	}
	leaves(t, filepath.Dir(f.path))
	if load(t, f.path, noDevice).Len() != 0 {
		t.Error("peers without a file")
	}
}

// TestEvictedFileStaysSmall has peers come and go many times.
func TestEvictedFileStaysSmall(t *testing.T) {
	f := newEvictedFile(t)
	const peers = 50
	for n := range byte(peers) {
		if err := f.put(away(n)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 1000 {
		key := keyOf(byte(i % peers))
		if err := f.drop(key); err != nil {
			t.Fatal(err)
		}
		if err := f.put(away(key[0])); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(f.path)
		if err != nil {
			t.Fatal(err)
		}
		if lines := bytes.Count(content, []byte{'\n'}) - 1; lines > 2*peers || lines != f.lines {
			t.Fatalf("%d lines for %d peers, %d are known", lines, peers, f.lines)
		}
	}
	if !sameEvicted(load(t, f.path, noDevice), f) {
		t.Error("the file says other than what is live")
	}
}

// TestTornLine cuts the file off at every byte, as a crash may: each peer is there whole or not at all, and whoever goes on
// with it does not build on what is torn.
func TestTornLine(t *testing.T) {
	f := newEvictedFile(t)
	if err := f.put(away(1), away(2)); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(f.path)
	if err != nil {
		t.Fatal(err)
	}
	for size := range len(content) {
		if err := os.WriteFile(f.path, content[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		loaded := load(t, f.path, noDevice)
		if want := max(bytes.Count(content[:size], []byte{'\n'})-1, 0); loaded.Len() != want { // but for the header
			t.Fatalf("%d of %d bytes: %d peers, want %d", size, len(content), loaded.Len(), want)
		}
		if err := loaded.put(away(3)); err != nil {
			t.Fatal(err)
		}
		if again := load(t, f.path, noDevice); again.Len() != loaded.Len() {
			t.Fatalf("%d of %d bytes and one peer more: %d peers", size, len(content), again.Len())
		}
	}
}

func TestBrokenEvictedFile(t *testing.T) {
	secret, good := secretOf(1).String(), keyOf(1).String()
	for name, content := range map[string]string{
		"no JSON":           secret,
		"cut off":           `{"public_key":"` + good + `","preshared_key":"` + secret,
		"another type":      `{"public_key":"` + good + `","preshared_key":["` + secret + `"]}`,
		"bad key":           `{"public_key":"` + secret[1:] + `"}`,
		"bad preshared key": `{"public_key":"` + good + `","preshared_key":"` + secret[1:] + `"}`,
		"bad keepalive":     `{"public_key":"` + good + `","keepalive":"` + secret + `"}`,
		"bad endpoint":      `{"public_key":"` + good + `","endpoint":"` + secret + `"}`,
		"bad allowed IP":    `{"public_key":"` + good + `","allowed_ips":["` + secret + `"]}`,
	} {
		f := newEvictedFile(t)
		if err := os.WriteFile(f.path, []byte(`{"interface":""}`+"\n"+content+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		err := f.Load(noDevice)
		if err == nil || !strings.Contains(err.Error(), f.path+":2: ") || !strings.HasSuffix(err.Error(), "; remove the file to do without") {
			t.Errorf("%s: error %v, want one that names the line and what to do", name, err)
		} else if strings.Contains(err.Error(), secret[1:]) {
			t.Errorf("%s: the error has the line in it: %v", name, err)
		}
		leaves(t, filepath.Dir(f.path), "wg0.evicted")
	}
}

// TestEvictedFileWithoutHeader could be of any interface.
func TestEvictedFileWithoutHeader(t *testing.T) {
	f := newEvictedFile(t)
	if err := os.WriteFile(f.path, []byte(`{"public_key":"`+keyOf(1).String()+`"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Load(noDevice); err == nil || !strings.Contains(err.Error(), f.path+":1: ") || f.Len() > 0 {
		t.Errorf("%d peers, error %v", f.Len(), err)
	}
}

// TestEvictedFileOfAnother is of an interface that had the name before: its peers are nobody's.
func TestEvictedFileOfAnother(t *testing.T) {
	f := newEvictedFile(t)
	f.of = "another"
	if err := f.put(away(1)); err != nil {
		t.Fatal(err)
	}
	d := newFakeDevice()
	loaded := load(t, f.path, noDevice)
	if n, err := loaded.PutBack(newDevice(d.client()), true); n != 0 || err != nil || d.has(keyOf(1)) {
		t.Errorf("%d put back, %v", n, err)
	}
	leaves(t, filepath.Dir(f.path))
}

// TestForeignEvictedFile has files that somebody else could have written: peers must not be made of them.
func TestForeignEvictedFile(t *testing.T) {
	line := []byte(`{"interface":""}` + "\n" + `{"public_key":"` + keyOf(1).String() + "\"}\n")
	for name, write := range map[string]func(path string) error{
		"mode":  func(path string) error { return os.WriteFile(path, line, 0o640) },
		"owner": func(path string) error { return writeAs(path, line, 65534) },
		"link": func(path string) error {
			if err := os.WriteFile(path+".elsewhere", line, 0o600); err != nil {
				return err
			}
			return os.Symlink(path+".elsewhere", path)
		},
	} {
		f := newEvictedFile(t)
		if err := write(f.path); err != nil {
			t.Fatal(err)
		}
		if err := f.Load(noDevice); err == nil || !strings.Contains(err.Error(), f.path) || f.Len() > 0 {
			t.Errorf("%s: %d peers, error %v", name, f.Len(), err)
		}
	}
}

func writeAs(path string, content []byte, uid int) error {
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return err
	}
	return os.Chown(path, uid, uid)
}

// TestPutBack is what restore does, after a crash in the middle of a batch.
func TestPutBack(t *testing.T) {
	for _, keepalives := range []bool{true, false} {
		f := newEvictedFile(t)
		if err := f.put(away(1), away(2)); err != nil {
			t.Fatal(err)
		}
		// The second was not yet removed, and somebody has changed it since.
		theirs := wgtypes.Peer{PublicKey: wgtypes.Key(keyOf(2)), AllowedIPs: ipNets(away(2).AllowedIPs[1])}
		d := newFakeDevice(theirs)
		d.beforeChange = func([]wgtypes.PeerConfig) error { return errBroken }
		f = load(t, f.path, noDevice)
		if n, err := f.PutBack(newDevice(d.client()), keepalives); err == nil || n != 0 {
			t.Errorf("%d put back, %v; want the error of the device", n, err)
		}
		leaves(t, filepath.Dir(f.path), "wg0.evicted")
		d.beforeChange = nil
		if n, err := f.PutBack(newDevice(d.client()), keepalives); err != nil || n != 1 {
			t.Errorf("%d put back, %v; want 1", n, err)
		}
		want := wholePeer(1)
		if !keepalives {
			want.PersistentKeepaliveInterval = 0
		}
		expectPeer(t, d, want)
		expectPeer(t, d, theirs)
		leaves(t, filepath.Dir(f.path))
		if n, err := f.PutBack(newDevice(fakeClient{}), keepalives); err != nil || n != 0 {
			t.Errorf("again: %d put back, %v", n, err)
		}
	}
}
