// SPDX-License-Identifier: Apache-2.0

package config

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/lazybpf/lazybpf/pkg/lazy"
)

func TestWGQuick(t *testing.T) {
	const (
		keyC = "CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCA="
		keyD = "DDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDA="
	)
	path := filepath.Join(t.TempDir(), "wg0.conf")
	if err := os.WriteFile(path, []byte(`
[Interface]
PrivateKey = cGFzc2VkIG92ZXIsIGFuZCBubyBsb25nZXIgaGVyZSE=
Endpoint = of.nobody:1

[Peer] # the office
PublicKey = `+keyD+`
AllowedIPs = 10.0.0.0/8
ENDPOINT=vpn.example.com:51820 # moves

[Peer]
Endpoint = 192.0.2.1:51820
publickey=`+keyB+`
#[Peer]
[peer]
Endpoint = [2001:db8::1]:51820
PublicKey = nonsense
[Peer]
PublicKey = `+keyC+`
Endpoint = last:1`), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ReadWGQuick(path)
	want := map[lazy.Key]string{key(t, keyD): "vpn.example.com:51820", key(t, keyC): "last:1"}
	if err != nil || !maps.Equal(got.Names, want) || got.SaveConfig {
		t.Errorf("read %v, %v; want %v", got, err, want)
	}
	if got, err := ReadWGQuick(path + ".missing"); len(got.Names) != 0 || got.SaveConfig || err != nil {
		t.Errorf("without a file: %v, %v", got, err)
	}
	if _, err := ReadWGQuick(filepath.Dir(path)); err == nil {
		t.Error("a directory is read")
	}
}

func TestWGQuickSaves(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wg0.conf")
	for line, want := range map[string]bool{
		"SaveConfig = true": true, "saveconfig=TRUE # since ever": true,
		"SaveConfig = false": false, "#SaveConfig = true": false, "": false,
	} {
		if err := os.WriteFile(path, []byte("[Interface]\n"+line+"\n[Peer]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadWGQuick(path); err != nil || got.SaveConfig != want {
			t.Errorf("%s: %v, %v", line, got.SaveConfig, err)
		}
	}
}
