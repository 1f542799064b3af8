// SPDX-License-Identifier: Apache-2.0

package server

import "testing"

func TestParseGroup(t *testing.T) {
	const must = "must be a group of /etc/group or the number of one: groupadd --system makes one"
	for _, test := range []struct {
		text string
		want Group
		err  string
	}{
		{"", Group{}, ""},
		{"root", Group{Name: "root"}, ""},
		{"0", Group{Name: "0"}, ""},
		{"61811", Group{Name: "61811", ID: 61811}, ""},
		{"4294967294", Group{Name: "4294967294", ID: 1<<32 - 2}, ""},
		{"4294967295", Group{}, must}, // -1, which chown takes for none
		{"4294967296", Group{}, must},
		{"-1", Group{}, must},
		{"no such group", Group{}, must},
	} {
		got, err := ParseGroup(test.text)
		if got != test.want || textOf(err) != test.err || got.String() != test.want.Name {
			t.Errorf("%q: %+v, %v", test.text, got, err)
		}
	}
}
