// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/lazybpf/lazybpf/pkg/lazy"
)

// EvictedFile is a file with all that it takes to put evicted peers back,
// preshared keys among it: only its owner may read it. It is there while peers
// are evicted, and after a daemon that did not end cleanly.
//
// It is JSON, a line that says of which interface it is, and one for each peer
// that is evicted or back. The last line of a peer counts. New lines are appended; once more than half of them say nothing
// any longer the file is written anew, whole or not at all.
type EvictedFile struct {
	path string
	of   string // the interface; see Device.ID

	mu    sync.Mutex // guards what follows
	live  map[lazy.Key]*evicted
	file  *os.File // to append to; nil: to be written anew
	lines int      // in it
	torn  bool     // what is live is not all in the file
}

// NewEvictedFile names a file, and neither reads nor writes it.
func NewEvictedFile(path string) *EvictedFile {
	return &EvictedFile{path: path, live: make(map[lazy.Key]*evicted)}
}

// evictedHeader is the first line of the file.
type evictedHeader struct {
	Interface *string `json:"interface"`
}

// evictedLine is each line after it, and the one place where a preshared key
// is text.
type evictedLine struct {
	PublicKey    string         `json:"public_key"`
	Back         bool           `json:"back,omitempty"` // and nothing else
	PresharedKey string         `json:"preshared_key,omitempty"`
	Endpoint     netip.AddrPort `json:"endpoint,omitzero"`
	AllowedIPs   []netip.Prefix `json:"allowed_ips,omitempty"`
	Keepalive    string         `json:"keepalive,omitempty"`
}

func lineOf(e *evicted) evictedLine {
	l := evictedLine{PublicKey: e.Key.String(), Endpoint: e.Endpoint, AllowedIPs: e.AllowedIPs, Keepalive: e.Keepalive.String()}
	if key := e.presharedKey.reveal(); key != nil {
		l.PresharedKey = key.String()
	}
	return l
}

// peer returns errors that do not have the line in them.
func (l evictedLine) peer() (*evicted, error) {
	key, err := lazy.ParseKey(l.PublicKey)
	if err != nil {
		return nil, errors.New("bad public_key")
	}
	e := &evicted{Peer: Peer{Key: key, Endpoint: l.Endpoint, AllowedIPs: l.AllowedIPs}}
	if l.Keepalive != "" {
		if e.Keepalive, err = time.ParseDuration(l.Keepalive); err != nil {
			return nil, errors.New("bad keepalive")
		}
	}
	if l.PresharedKey != "" {
		preshared, err := wgtypes.ParseKey(l.PresharedKey)
		if err != nil {
			return nil, errors.New("bad preshared_key")
		}
		e.presharedKey = newPresharedKey(preshared)
	}
	return e, nil
}

// Load reads what a daemon that did not end cleanly has left of the device: the
// peers of an interface that had its name before went with that. A last line
// that is cut off does not count: nothing was done before it was whole.
func (f *EvictedFile) Load(device *Device) error {
	content, err := f.read()
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read evicted peers: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	lines := bytes.Split(content, []byte{'\n'})
	for i, line := range lines[:len(lines)-1] {
		take := f.take
		if i == 0 {
			take = f.takeHeader
		}
		if err := take(line); err != nil {
			return fmt.Errorf("evicted peers: %s:%d: %w; remove the file to do without", f.path, i+1, err)
		}
		if f.of != device.ID() {
			return nil
		}
	}
	return nil
}

// errNotOurs stands for an error of JSON, which could have a part of the line in
// it.
var errNotOurs = errors.New("no JSON of ours")

func (f *EvictedFile) takeHeader(line []byte) error {
	var header evictedHeader
	if json.Unmarshal(line, &header) != nil || header.Interface == nil {
		return errNotOurs
	}
	f.of = *header.Interface
	return nil
}

// take takes in a line of a peer.
func (f *EvictedFile) take(line []byte) error {
	var l evictedLine
	if json.Unmarshal(line, &l) != nil {
		return errNotOurs
	}
	e, err := l.peer()
	if err != nil {
		return err
	}
	if f.live[e.Key] = e; l.Back {
		delete(f.live, e.Key)
	}
	return nil
}

// read reads the file if nobody else can have written it: peers are made of it.
func (f *EvictedFile) read() ([]byte, error) {
	file, err := os.OpenFile(f.path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var stat unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &stat); err != nil {
		return nil, err
	}
	if stat.Uid != uint32(os.Geteuid()) || stat.Mode&0o077 != 0 {
		return nil, fmt.Errorf("others may have written %s: remove it to do without", f.path)
	}
	return io.ReadAll(file)
}

// Len is how many peers are evicted by what the file says.
func (f *EvictedFile) Len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.live)
}

// Peers are those of the file, as they were on the device.
func (f *EvictedFile) Peers() (peers []Peer) {
	for _, e := range f.all() {
		peers = append(peers, e.Peer)
	}
	return peers
}

func (f *EvictedFile) all() []*evicted {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Collect(maps.Values(f.live))
}

// put notes peers that are evicted; what was said of them before no longer
// counts.
func (f *EvictedFile) put(peers ...*evicted) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	lines := make([]evictedLine, len(peers))
	for i, e := range peers {
		f.live[e.Key] = e
		lines[i] = lineOf(e)
	}
	return f.add(lines)
}

// drop notes that peers are back.
func (f *EvictedFile) drop(peers ...lazy.Key) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var lines []evictedLine
	for _, key := range peers {
		if f.live[key] != nil {
			delete(f.live, key)
			lines = append(lines, evictedLine{PublicKey: key.String(), Back: true})
		}
	}
	return f.add(lines)
}

// mend writes what could not be written before.
func (f *EvictedFile) mend() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.torn {
		return nil
	}
	return f.rewrite()
}

// add writes lines, which are in live already. The caller holds f.mu.
func (f *EvictedFile) add(lines []evictedLine) error {
	if len(lines) == 0 {
		return nil
	}
	if f.file == nil || f.torn || f.lines+len(lines) > 2*len(f.live) {
		return f.rewrite()
	}
	content, err := encode(lines...)
	if err == nil {
		_, err = f.file.Write(content)
	}
	if err != nil {
		f.torn = true
		return fmt.Errorf("note evicted peers: %w", err)
	}
	f.lines += len(lines)
	return nil
}

// encode returns lines of JSON.
func encode[T any](lines ...T) ([]byte, error) {
	var content bytes.Buffer
	encoder := json.NewEncoder(&content)
	for _, l := range lines {
		if err := encoder.Encode(l); err != nil {
			return nil, err
		}
	}
	return content.Bytes(), nil
}

// rewrite replaces the file by one with what is live, or removes it if nothing
// is. The caller holds f.mu.
func (f *EvictedFile) rewrite() error {
	f.torn = true
	if len(f.live) == 0 {
		return f.remove()
	}
	lines := make([]evictedLine, 0, len(f.live))
	for _, e := range f.live {
		lines = append(lines, lineOf(e))
	}
	header, err := encode(evictedHeader{&f.of})
	content, linesErr := encode(lines...)
	if err = errors.Join(err, linesErr); err != nil {
		return fmt.Errorf("note evicted peers: %w", err)
	}
	next, err := createOver(f.path, append(header, content...))
	if err != nil {
		return fmt.Errorf("note evicted peers: %w", err)
	}
	f.close()
	f.file, f.lines, f.torn = next, len(lines), false
	return nil
}

func (f *EvictedFile) close() {
	if f.file != nil {
		_ = f.file.Close() // nothing is written any more
		f.file = nil
	}
}

// Remove removes the file and forgets what it says. That there is none is no
// error.
func (f *EvictedFile) Remove() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.live)
	return f.remove()
}

func (f *EvictedFile) remove() error {
	f.close()
	if err := errors.Join(removeFile(f.path), removeFile(nextOf(f.path))); err != nil {
		return fmt.Errorf("remove evicted peers: %w", err)
	}
	f.torn = false
	return nil
}

// PutBack puts all evicted peers back, with keepalives or without, and removes
// the file. Peers that are on the device, and allowed IPs that others have got,
// stay as they are. It returns how many it has put back. Errors: ErrNoDevice,
// ErrPermission, those of the file.
func (f *EvictedFile) PutBack(device *Device, keepalives bool) (int, error) {
	away := f.all()
	if len(away) == 0 {
		return 0, f.Remove()
	}
	peers, err := device.Peers()
	if err != nil {
		return 0, err
	}
	on := newHoldings(peers)
	var back []*evicted
	for _, e := range away {
		if on.peers[e.Key] {
			continue
		}
		whole := *e.without(on)
		if !keepalives {
			whole.Keepalive = 0
		}
		back = append(back, &whole)
	}
	if err := device.add(back...); err != nil {
		return 0, err
	}
	return len(back), f.Remove()
}
