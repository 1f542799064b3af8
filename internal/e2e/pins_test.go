// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/binary"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/lazybpf/lazybpf/internal/daemon"
	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/lab/labtest"
)

// TestPinnedPeers reads the peers as bpftool does: from the pinned map, with the names that the kernel has of what is in it.
func TestPinnedPeers(t *testing.T) {
	n := labtest.Network(t, lab.Options{})
	r := run(t, n, onHere(t, n))
	if _, err := n.Here.Ping(soon(t), n.There.IPv4); err != nil {
		t.Fatal(err)
	}
	pin := filepath.Join(daemon.PinDir(bpffs, n.Here.Name), "peers")
	peers, err := ebpf.LoadPinnedMap(pin, &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer peers.Close()

	record := recordType(t, peers)
	if record.Size != peers.ValueSize() {
		t.Errorf("a record has %d bytes, its type %d", peers.ValueSize(), record.Size)
	}
	var names []string
	for _, member := range record.Members {
		names = append(names, member.Name)
	}
	want := []string{
		"gate", "generation", "rules", "last_tx", "last_rx", "tx_packets", "tx_bytes", "rx_packets", "rx_bytes", "held", "released",
	}
	if !slices.Equal(names, want) {
		t.Errorf("a record has %q, want %q", names, want)
	}

	status := r.there()
	value := make([]byte, peers.ValueSize())
	if err := peers.Lookup(uint32(0), value); err != nil { // the only peer
		t.Fatal(err)
	}
	for name, want := range map[string]uint64{
		"tx_packets": status.TxPackets, "tx_bytes": status.TxBytes, "rx_packets": status.RxPackets, "rx_bytes": status.RxBytes,
	} {
		i := slices.Index(names, name)
		if i < 0 {
			continue // as was said
		}
		if got := binary.NativeEndian.Uint64(value[record.Members[i].Offset.Bytes():]); got != want || got == 0 {
			t.Errorf("%s is %d, status says %d", name, got, want)
		}
	}
}

// recordType is the type of the map's values, of which the kernel has the description.
func recordType(t *testing.T, m *ebpf.Map) *btf.Struct {
	t.Helper()
	handle, err := m.Handle()
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	types, err := handle.Spec(nil)
	if err != nil {
		t.Fatal(err)
	}
	var record *btf.Struct
	if err := types.TypeByName("peer", &record); err != nil {
		t.Fatal(err)
	}
	return record
}
