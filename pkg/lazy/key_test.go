// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"encoding/json"
	"testing"
)

func TestKey(t *testing.T) {
	const text = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
	k, err := ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	if k.String() != text || k.Short() != text[:8] {
		t.Errorf("key is %s, in short %s, want %s", k, k.Short(), text)
	}
	encoded, err := json.Marshal(map[Key]Key{k: k})
	if err != nil || string(encoded) != `{"`+text+`":"`+text+`"}` {
		t.Errorf("encoded as %s, %v", encoded, err)
	}
	var decoded map[Key]Key
	if err := json.Unmarshal(encoded, &decoded); err != nil || decoded[k] != k {
		t.Errorf("decoded as %v, %v", decoded, err)
	}
	if err := json.Unmarshal([]byte(`{"x":"`+text+`"}`), &decoded); err == nil {
		t.Error("a key of one letter is decoded")
	}
	for _, wrong := range []string{"", "x", text[:43], text + "A", "%" + text[1:], "AAAA" + text} {
		if k, err := ParseKey(wrong); err == nil {
			t.Errorf("%q is read as %s", wrong, k)
		}
	}
}

func TestNames(t *testing.T) {
	for state, want := range map[State]string{0: "", Idle: "idle", Connecting: "connecting", Connected: "connected"} {
		if got := state.String(); got != want {
			t.Errorf("state %d is %q, want %q", state, got, want)
		}
	}
	for reason, want := range map[Reason]string{
		0: "", ReasonEgress: "egress", ReasonIngress: "ingress", ReasonRequest: "request", ReasonStart: "start",
		ReasonGroup: "group",
	} {
		if got := reason.String(); got != want {
			t.Errorf("reason %d is %q, want %q", reason, got, want)
		}
	}
}
