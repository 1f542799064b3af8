// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"bytes"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// TestNoRoomForSecrets goes through all that a peer is made of: no type that can hold a key has it anywhere but where public
// keys belong, and in a presharedKey.
func TestNoRoomForSecrets(t *testing.T) {
	for _, v := range []any{Peer{}, Change{}, managed{}, eviction{}, Reading{}, EvictedFile{}, Journal("")} {
		findKeys(t, reflect.TypeOf(v), reflect.TypeOf(v).Name(), make(map[reflect.Type]bool))
	}
}

// publicKeys are where the keys of peers stand.
var publicKeys = []string{".Key", "Reading.Drifted element", "Reading.Returned element", "EvictedFile.live key"}

func findKeys(t *testing.T, in reflect.Type, path string, seen map[reflect.Type]bool) {
	switch {
	case in == reflect.TypeFor[lazy.Key]() && slices.ContainsFunc(publicKeys, func(at string) bool { return strings.HasSuffix(path, at) }),
		in == reflect.TypeFor[presharedKey](),
		in == reflect.TypeFor[os.File](): // has bytes of all kinds
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
	c.Adopt(peers[0], every, true)
	journal := newJournal(t)
	if err := journal.Save(c.Record()); err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile(string(journal))
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{string(written), c.Close(t.Context(), keyOf(1)).Error()}
	for _, v := range []any{peers, Change{Key: peers[0].Key, Keepalive: every}, c.Record()} {
		texts = append(texts, formats(v)...)
	}
	expectHidden(t, texts, private, preshared)
}

// TestPresharedKeyIsHidden formats the one type that has a secret, and all that has it inside, in every way.
func TestPresharedKeyIsHidden(t *testing.T) {
	secret := newPresharedKey(secretOf(1))
	d := newFakeDevice(wholePeer(1))
	c, file := evictor(t, d)
	evict(t, c, keyOf(1))
	m := c.peer(keyOf(1))
	texts := formats(secret)
	for _, text := range texts {
		if !strings.Contains(text, hidden) {
			t.Errorf("%q does not say that it hides something", text)
		}
	}
	field := struct{ inside presharedKey }{secret} // fmt does not ask the methods of this one
	for _, v := range []any{
		&secret, field, &field, []presharedKey{secret}, map[string]any{"key": secret}, any(secret),
		*away(1), away(1), m.evicted.Load(), m, &eviction{saved: away(1)}, c, file, file.live, look(t, c),
	} {
		texts = append(texts, formats(v)...)
	}
	var log bytes.Buffer
	for _, formatter := range []logrus.Formatter{new(logrus.TextFormatter), new(logrus.JSONFormatter)} {
		logger := logrus.New()
		logger.SetOutput(&log)
		logger.SetFormatter(formatter)
		logger.WithFields(logrus.Fields{"key": secret, "peer": away(1), "field": field}).Error(secret, away(1))
	}
	texts = append(texts, log.String())
	if err := gob.NewEncoder(&log).Encode(secret); err == nil {
		t.Errorf("gob takes it: %x", log.Bytes())
	}
	expectHidden(t, texts, secretOf(1))
	// Its file has it, and nobody else may read that.
	content, err := os.ReadFile(file.path)
	if err != nil || !bytes.Contains(content, []byte(secretOf(1).String())) {
		t.Errorf("the file does not have it: %v", err)
	}
}

// formats are all ways in which something may get into a text.
func formats(v any) (texts []string) {
	for _, verb := range "vdsqxXoObcUtTp" {
		for _, flags := range []string{"", "+", "#", " ", "-40", "08", "+#", "0.3"} {
			if verb != 'T' && verb != 'p' { // which say nothing of what is inside
				texts = append(texts, fmt.Sprintf("%"+flags+string(verb), v))
			}
		}
	}
	texts = append(texts, fmt.Sprint(v), fmt.Errorf("error: %v", v).Error())
	for _, marshal := range []func(any) ([]byte, error){json.Marshal, xml.Marshal} {
		if text, err := marshal(v); err == nil {
			texts = append(texts, string(text))
		}
	}
	return texts
}

// expectHidden fails the test if one of the texts has one of the keys in it, in whatever form.
func expectHidden(t *testing.T, texts []string, keys ...wgtypes.Key) {
	t.Helper()
	for _, text := range texts {
		for _, key := range keys {
			for _, form := range []string{
				key.String(), key.String()[:10], string(key[:7]), hex.EncodeToString(key[:]), strings.ToUpper(hex.EncodeToString(key[:])),
				strings.Trim(fmt.Sprint(key[:]), "[]"), strings.Trim(fmt.Sprintf("%#v", key[:7]), "[]byte{}"),
			} {
				if strings.Contains(text, form) {
					t.Fatalf("a key is in %s", text)
				}
			}
		}
	}
}
