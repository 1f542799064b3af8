// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/lazybpf/lazybpf/pkg/detect"
	"github.com/lazybpf/lazybpf/pkg/lazy"
)

const (
	keyA = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	keyB = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA="
)

func key(t *testing.T, text string) lazy.Key {
	t.Helper()
	key, err := lazy.ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestPolicy(t *testing.T) {
	flags := newFlags()
	_, err := FromFile(flags, file(t, `
max-opens = 3

[[rules]]
effect = "ignored"
protocol = "udp"
ports = "123"

[peers.office]
public-key = "`+keyA+`"
endpoint = "vpn.example.com:51820"
keepalive = "25s"
inactivity-threshold = "1h"
wake = "hold"
groups = ["lab", "all"]
hook = ["/usr/libexec/boot", "vm 7"]

[[peers.office.rules]]
effect = "wakes"
direction = "ingress"
protocol = "47"

[[peers.office.rules]]
effect = "keeps-awake"
protocol = "tcp"
ports = "5000-5100"

[peers."röuter 2".extra]
`), keys)
	if err == nil || !strings.Contains(err.Error(), "extra") {
		t.Errorf("an unknown table gives %v", err)
	}
	got, err := FromFile(flags, file(t, `
max-opens = 3
rules = [{ effect = "ignored", protocol = "udp", ports = "123" }]
peers.office = { public-key = "`+keyA+`", endpoint = "vpn.example.com:51820", keepalive = "25s", wake = "hold",
  inactivity-threshold = "1h", groups = ["lab", "all"], hook = ["/usr/libexec/boot", "vm 7"], rules = [
    { effect = "wakes", direction = "ingress", protocol = "47" },
    { effect = "keeps-awake", protocol = "tcp", ports = "5000-5100" },
  ] }
[peers.roof]
public-key = "`+keyB+`"
endpoint = "[2001:db8::1]:51820"
keepalive = "off"
excluded = true
`), keys)
	if err != nil {
		t.Fatal(err)
	}
	keepalive, off := 25*time.Second, time.Duration(0)
	want := Policy{
		Rules: []detect.Rule{{Protocol: 17, Ports: detect.PortRange{First: 123, Last: 123}}},
		Peers: []Peer{{
			Name: "office", Key: key(t, keyA), Endpoint: "vpn.example.com:51820", Keepalive: &keepalive,
			Threshold: time.Hour, Wake: lazy.WakeHold, Groups: []string{"lab", "all"},
			Hook: []string{"/usr/libexec/boot", "vm 7"},
			Rules: []detect.Rule{
				{Effect: detect.Wakes, Direction: detect.IngressOnly, Protocol: 47},
				{Effect: detect.KeepsAwake, Protocol: 6, Ports: detect.PortRange{First: 5000, Last: 5100}},
			},
		}, {
			Name: "roof", Key: key(t, keyB), Endpoint: "[2001:db8::1]:51820", Keepalive: &off, Excluded: true,
		}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if values(flags) != "max-opens=3" {
		t.Errorf("flags set to %s", values(flags))
	}
}

// TestPolicyIsWrong: one line that names the file, the line, the key, and what is accepted.
func TestPolicyIsWrong(t *testing.T) {
	const office = "[peers.office]\npublic-key = '" + keyA + "'\n"
	for content, want := range map[string]string{
		"[peers.office]":                                                  "FILE:1: peers.office.public-key: \"\" is no public key: that is 44 characters of base64",
		"[peers.office]\n\npublic-key = 'abc'":                            "FILE:3: peers.office.public-key: \"abc\" is no public key: that is 44 characters of base64",
		office + "[peers.roof]\npublic-key = '" + keyA + "'":              "FILE:4: peers.roof.public-key: peer office has this key already",
		office + "endpoint = 'vpn.example.com'":                           "FILE:3: peers.office.endpoint: \"vpn.example.com\": must be host:port, as vpn.example.com:51820 or [2001:db8::1]:51820",
		office + "endpoint = ':51820'":                                    "FILE:3: peers.office.endpoint: \":51820\": must be host:port",
		office + "endpoint = 'vpn.example.com:0'":                         "FILE:3: peers.office.endpoint: ",
		office + "keepalive = '0s'":                                       "FILE:3: peers.office.keepalive: \"0s\": must be \"off\", or whole seconds from \"1s\" to \"65535s\"",
		office + "keepalive = '1.5s'":                                     "FILE:3: peers.office.keepalive: ",
		office + "keepalive = 25":                                         "FILE:3: peers.office.keepalive: must be text in quotes",
		office + "Keepalive = 25":                                         "FILE:3: peers.office.Keepalive: must be text in quotes",
		office + "excluded = 'yes'":                                       "FILE:3: peers.office.excluded: must be true or false",
		office + "hook = '/bin/true'":                                     "FILE:3: peers.office.hook: must be a list of texts in quotes",
		office + "groups = [1]":                                           "FILE:3: peers.office.groups: must be a list of texts in quotes",
		office + "rules = [{effect = 1}]":                                 "FILE:3: peers.office.rules: must be tables",
		"peers = 3":                                                       "FILE:1: peers: must be tables as lazybpf.toml(5) has them",
		"[peers]\noffice = 3":                                             "FILE:2: peers.office: must be tables as lazybpf.toml(5) has them",
		"rules = 3":                                                       "FILE:1: rules: must be tables as lazybpf.toml(5) has them",
		"[[rules]]\nports = 53":                                           "FILE:2: rules.ports: must be text in quotes",
		office + "inactivity-threshold = '1ms'":                           "FILE:3: peers.office.inactivity-threshold: \"1ms\": must be a duration of at least 1s, like \"15m\"",
		office + "wake = 'never'":                                         "FILE:3: peers.office.wake: \"never\": must be one of hold, pass",
		office + "hook = ['true']":                                        "FILE:3: peers.office.hook: \"true\": must be a list of a program, by its absolute path, and its arguments",
		office + "colour = 'red'":                                         "FILE:3: unknown key peers.office.colour: there are endpoint, excluded, groups, hook, inactivity-threshold, keepalive, public-key, rules, wake",
		"[peers.'a b']\npublic-key = '" + keyA + "'":                      "FILE:1: peers.\"a b\": \"a b\" is no name",
		"[peers.'a,b']\npublic-key = '" + keyA + "'":                      "FILE:1: peers.\"a,b\": \"a,b\" is no name: it must have characters that can be seen, and no spaces or commas",
		"[peers.\"a\\u202eb\"]\npublic-key = '" + keyA + "'":              `FILE:1: peers."a\u202eb": "a\u202eb" is no name`, // turns the line round
		"rules = [{}]":                                                    "FILE:1: rules.1.effect: \"\": must be one of counts, ignored, keeps-awake, wakes",
		"\n[[rules]]\neffect='wakes'\n[[rules]]\neffect='x'":              "FILE:5: rules.2.effect: \"x\": must be one of counts, ignored, keeps-awake, wakes",
		"[[rules]]\neffect='wakes'\nprotocol='256'":                       "FILE:3: rules.1.protocol: \"256\": must be one of ",
		"[[rules]]\neffect='wakes'\nprotocol='0'":                         "FILE:3: rules.1.protocol: \"0\": must be one of ",
		"[[rules]]\neffect='wakes'\ndirection='up'":                       "FILE:3: rules.1.direction: \"up\": must be one of egress, ingress",
		"[[rules]]\neffect='wakes'\nports='1-0'":                          "FILE:3: rules.1.ports: \"1-0\": must be a port from 1 to 65535, or a range like 5000-5100",
		"[[rules]]\neffect='wakes'\nprotocol='icmp'\nports='7'":           "FILE:1: rules.1: ",
		"[[rules]]\nwhat='wakes'":                                         "FILE:2: unknown key rules.what: there are direction, effect, ports, protocol",
		office + "\n[[peers.office.rules]]\neffect='wakes'\nports='none'": "FILE:6: peers.office.rules.1.ports: \"none\": must be a port",
		strings.Repeat("[[rules]]\neffect='wakes'\n", 17):                 "FILE:1: rules: ",
	} {
		wantError(t, content, want)
	}
}

// TestHookOfNobodyButRoot: what root runs, nobody else may say.
func TestHookOfNobodyButRoot(t *testing.T) {
	const peer = "[peers.office]\npublic-key = '" + keyA + "'\n"
	for _, test := range []struct {
		content string
		mode    os.FileMode
		owner   int
		refused bool
	}{
		{peer + "hook = ['/bin/true']", 0o600, 0, false},
		{peer + "hook = ['/bin/true']", 0o644, 0, false},
		{peer + "hook = ['/bin/true']", 0o620, 0, true},
		{peer + "hook = ['/bin/true']", 0o602, 0, true},
		{peer + "hook = ['/bin/true']", 0o600, 1000, true},
		{peer, 0o666, 1000, false},
	} {
		path := file(t, test.content)
		if err := os.Chmod(path, test.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, test.owner, -1); err != nil {
			t.Fatal(err)
		}
		if err := fromFile(newFlags(), path); (err != nil) != test.refused {
			t.Errorf("%+v: error %v", test, err)
		}
	}
}

func FuzzFile(f *testing.F) {
	f.Add("max-opens = 3\n[[rules]]\neffect = 'wakes'\n[peers.a]\npublic-key = '" + keyA + "'\nhook = ['/x']")
	f.Fuzz(func(t *testing.T, content string) {
		s := source{path: "FILE", content: []byte(content), lines: make(map[string]int)}
		_, err := s.policy(keys)
		if err == nil {
			err = s.flags(newFlags())
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: error of several lines: %v", content, err)
		}
	})
}
