// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/lazybpf/lazybpf/pkg/control"
)

// parseFilter reads what a client has written after the question mark. What it
// does not know it refuses: a filter that is left out lets too much through.
func parseFilter(query string) (control.Filter, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return control.Filter{}, err
	}
	for name := range values {
		if !slices.Contains([]string{"state", "peer", "since"}, name) {
			return control.Filter{}, fmt.Errorf("parameter %q: there are state, peer and since", name)
		}
	}
	f := control.Filter{Kinds: values["state"], Peers: values["peer"]}
	for _, kind := range f.Kinds {
		if !slices.Contains(control.Kinds, kind) {
			return control.Filter{}, fmt.Errorf("state %q: must be %s", kind, strings.Join(control.Kinds, " or "))
		}
	}
	if text := values.Get("since"); text != "" {
		if f.Since, err = time.Parse(time.RFC3339Nano, text); err != nil {
			return control.Filter{}, fmt.Errorf("since %q: must be a time as 2006-01-02T15:04:05Z", text)
		}
	}
	return f, nil
}
