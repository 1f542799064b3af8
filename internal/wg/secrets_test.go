// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// TestNoRoomForSecrets goes through all that a peer is made of: no type that can hold a key has it anywhere but where the
// public key belongs.
func TestNoRoomForSecrets(t *testing.T) {
	for _, v := range []any{Peer{}, Change{}, keepalive{}, Journal("")} {
		findKeys(t, reflect.TypeOf(v), reflect.TypeOf(v).Name(), make(map[reflect.Type]bool))
	}
}

func findKeys(t *testing.T, in reflect.Type, path string, seen map[reflect.Type]bool) {
	if in == reflect.TypeFor[lazy.Key]() && strings.HasSuffix(path, ".Key") {
		return
	}
	if in.ConvertibleTo(reflect.TypeFor[wgtypes.Key]()) {
		t.Errorf("%s can hold a key", path)
	}
	if seen[in] {
		return
	}
	seen[in] = true
	switch in.Kind() {
	case reflect.Struct:
		for field := range in.Fields() {
			findKeys(t, field.Type, path+"."+field.Name, seen)
		}
	case reflect.Map:
		findKeys(t, in.Key(), path+" key", seen)
		findKeys(t, in.Elem(), path+" value", seen)
	case reflect.Array, reflect.Slice, reflect.Pointer, reflect.Chan:
		findKeys(t, in.Elem(), path+" element", seen)
	}
}

// TestSecretsStayBehind reads a device with secrets, and looks for them in all that may be logged or written after that.
func TestSecretsStayBehind(t *testing.T) {
	private, err := wgtypes.GeneratePrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	preshared, err := wgtypes.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	d := newDevice(fakeClient{
		device: func(string) (*wgtypes.Device, error) {
			return &wgtypes.Device{PrivateKey: private, Peers: []wgtypes.Peer{{
				PublicKey: wgtypes.Key(keyOf(1)), PresharedKey: preshared, PersistentKeepaliveInterval: every,
			}}}, nil
		},
	})
	peers, err := d.Peers()
	if err != nil {
		t.Fatal(err)
	}
	c := NewConnector(d, nil)
	c.Adopt(peers[0], every)
	journal := newJournal(t)
	if err := journal.Save(c.Originals()); err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile(string(journal))
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{string(written), c.Close(t.Context(), keyOf(1)).Error()}
	for _, v := range []any{peers, Change{Key: peers[0].Key, Keepalive: every}, c.Originals()} {
		texts = append(texts, fmt.Sprint(v), fmt.Sprintf("%+v", v), fmt.Sprintf("%#v", v), fmt.Sprintf("%x", v))
		if text, err := json.Marshal(v); err == nil {
			texts = append(texts, string(text))
		}
	}
	for _, text := range texts {
		for name, key := range map[string]wgtypes.Key{"private key": private, "preshared key": preshared} {
			for _, form := range []string{key.String(), hex.EncodeToString(key[:]), strings.Trim(fmt.Sprint(key[:]), "[]")} {
				if strings.Contains(text, form) {
					t.Errorf("the %s is in %s", name, text)
				}
			}
		}
	}
}
