// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lazybpf/lazybpf/internal/config"
	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
	"github.com/lazybpf/lazybpf/internal/wg"
	"github.com/lazybpf/lazybpf/pkg/control"
)

// TestCheckPeers finds peers that are evicted, too, and says what wg-quick would do.
func TestCheckPeers(t *testing.T) {
	t.Parallel()
	n := labtest.Network(t, lab.Options{})
	o := optionsFor(t, n)
	device, err := wg.Open(o.Interface)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	evicted := fmt.Sprintf(`{"interface":%q}`, device.ID()) + "\n" +
		`{"public_key":"EvictedAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","allowed_ips":["10.98.0.0/24"]}` + "\n"
	if err := os.WriteFile(EvictedOf(o.Control), []byte(evicted), 0o600); err != nil {
		t.Fatal(err)
	}
	o.WGQuick.SaveConfig = true
	o.Exclude = []string{n.There.IPv4.String(), "10.98.0.7", "Evicted"}
	o.Policy.Peers = []config.Peer{{Name: "here", Key: there(n)}, {Name: "nobody"}}
	notes, err := CheckPeers(o)
	if err != nil || len(notes) != 2 || notes[0] != savesConfig || !strings.HasPrefix(notes[1], "peer nobody: ") {
		t.Errorf("%q, %v", notes, err)
	}
	o.Exclude = []string{"10.99.9.9"}
	if _, err := CheckPeers(o); !errors.Is(err, control.ErrNoPeer) {
		t.Errorf("of an address that is nobody's: %v", err)
	}
	o.Interface, o.Control = "nosuch0", filepath.Join(t.TempDir(), "wg0.sock")
	notes, err = CheckPeers(o)
	if err != nil || len(notes) != 2 || !strings.Contains(notes[1], "wg-quick up nosuch0") {
		t.Errorf("without the interface: %q, %v", notes, err)
	}
}

func TestSaveConfigIsLogged(t *testing.T) {
	t.Parallel()
	for _, saves := range []bool{true, false} {
		o := optionsFor(t, labtest.Network(t, lab.Options{}))
		var log strings.Builder
		o.Log.SetOutput(&log)
		o.WGQuick.SaveConfig = saves
		stop(t, manage(t, o))
		if strings.Contains(log.String(), savesConfig) != saves {
			t.Errorf("SaveConfig = %v: %s", saves, log.String())
		}
	}
}
