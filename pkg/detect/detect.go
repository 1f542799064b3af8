// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Options say what to watch and how. Only Interface has no default.
type Options struct {
	// Interface is the name, of 1 to 15 bytes, of a network device without link
	// layer header, in the network namespace of the calling thread: WireGuard's, or
	// the TUN device of a userspace implementation.
	Interface string
	// Attach chooses the hook; the zero value takes the best there is.
	Attach Attach
	// Peers is how many to make room for at first, at most 1,048,576. Less than
	// 1024 means 1024. The tables grow by themselves.
	Peers int
	// CountMulticast makes link-local multicast (224.0.0.0/24; ff02::/16, ff12::/16
	// and the like) and limited broadcast wake peers and keep them awake like
	// other traffic.
	CountMulticast bool
	// Hold bounds what is held of each peer. Of all together it is 64 MiB; what
	// comes then is dropped.
	Hold Hold
	// Rules say what packets count as that no rule of their peer matches.
	Rules []Rule
}

// Validate returns an error that names the field and what it accepts; ErrRule if
// it is Rules.
func (o Options) Validate() error {
	switch {
	case o.Interface == "" || len(o.Interface) >= unix.IFNAMSIZ:
		return fmt.Errorf("option Interface: %q is no device name of 1 to %d bytes", o.Interface, unix.IFNAMSIZ-1)
	case o.Attach > AttachClsact:
		return fmt.Errorf("option Attach: %d is none of AttachAuto, AttachTCX, AttachClsact", o.Attach)
	case o.Peers < 0 || o.Peers > maxPeers:
		return fmt.Errorf("option Peers: %d is not within 0 to %d", o.Peers, maxPeers)
	case o.Hold.Packets < 0 || o.Hold.Bytes < 0 || o.Hold.Timeout < 0:
		return errors.New("option Hold: limits must not be negative")
	}
	if err := ValidateRules(o.Rules); err != nil {
		return fmt.Errorf("option Rules: %w", err)
	}
	return nil
}

// maxPeers is the most that a WireGuard device has.
const maxPeers = 1 << 20

// Detector watches one device, from New to Close. Its methods may be called from
// any goroutine, also from one that takes the events.
//
// It stays with its device. When that is deleted or moved to another network
// namespace, nothing is seen any more and what is held is lost: close the
// detector then, at once, since packets that it holds go nowhere.
type Detector struct {
	clock   *clock
	spec    *ebpf.CollectionSpec
	shared  *shared
	parking *parking
	netlink *netlink.Handle
	hooks   attachment

	events  chan Event
	once    sync.Once // closes
	closing chan struct{}
	ring    *ringbuf.Reader

	mu             sync.Mutex // guards what follows, and the records' memory
	closed         bool
	quiet          bool // nothing may be sent to events any more
	tables         *tables
	slots          []slot
	free           []uint32 // slots without peer, the longest unused first; see resting
	lengths        lengths
	contested      map[netip.Prefix][]uint32 // prefixes of several peers: their slots, the owner last
	pins           *pins
	rules          *ruleSets
	interfaceRules uint8 // their place
}

// New attaches a detector to a device. Traffic is passed on untouched until
// peers are added and armed. What a dead detector left on the device is
// replaced; programs and filters of others stay.
//
// Errors: ErrNoDevice, ErrLinkLayer, ErrBusy, ErrUnsupported, ErrPermission,
// and those of Validate, ErrRule among them; then nothing is left attached.
func New(options Options) (*Detector, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	d := &Detector{
		events:    make(chan Event, 1024),
		closing:   make(chan struct{}),
		lengths:   newLengths(),
		contested: make(map[netip.Prefix][]uint32),
		rules:     newRuleSets(),
	}
	if err := d.open(options); err != nil {
		return nil, errors.Join(fmt.Errorf("watch %s: %w", options.Interface, err), d.Close())
	}
	return d, nil
}

// open does what New promises; Close undoes as much of it as was done.
func (d *Detector) open(options Options) error {
	var err error
	if d.clock, err = newClock(); err != nil {
		return fmt.Errorf("read clock: %w", err)
	}
	if d.netlink, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	link, err := findDevice(d.netlink, options.Interface)
	if err != nil {
		return err
	}
	// The parking device comes first: it is the lock.
	d.parking, err = newParking(d, d.netlink, link.Index, options)
	if err != nil {
		return err
	}
	go d.parking.run()

	if d.spec, err = newSpec(d.parking, options.CountMulticast); err != nil {
		return err
	}
	if d.shared, err = newShared(d.spec); err != nil {
		return explain(err)
	}
	room := uint32(max(options.Peers, minCapacity))
	d.tables, err = newTables(d.spec, capacity{room, room}, d.shared.replacements())
	if err != nil {
		return explain(err)
	}
	if err := errors.Join(d.fill(d.tables), d.SetInterfaceRules(options.Rules), d.shared.run(d.tables)); err != nil {
		return err
	}
	if d.ring, err = ringbuf.NewReader(d.shared.Events); err != nil {
		return fmt.Errorf("open ring buffer: %w", err)
	}
	go d.readEvents(d.ring)
	if err := removeFilters(d.netlink, link.Index); err != nil {
		return err
	}
	d.hooks, err = attach(d.netlink, link.Index, options.Attach, d.shared)
	return explain(err)
}

// findDevice returns a device that the programs can read packets of.
func findDevice(nl *netlink.Handle, name string) (*netlink.LinkAttrs, error) {
	link, err := nl.LinkByName(name)
	if missing := (netlink.LinkNotFoundError{}); errors.As(err, &missing) {
		return nil, ErrNoDevice
	}
	if err != nil {
		return nil, fmt.Errorf("find device: %w", err)
	}
	if encap := link.Attrs().EncapType; encap != "none" {
		return nil, fmt.Errorf("%w: its packets begin with a header of type %s", ErrLinkLayer, encap)
	}
	return link.Attrs(), nil
}

// newSpec is the programs with their constants.
func newSpec(p *parking, countMulticast bool) (*ebpf.CollectionSpec, error) {
	spec, err := loadBpf()
	if err != nil {
		return nil, err
	}
	var multicast uint8
	if countMulticast {
		multicast = 1
	}
	return spec, errors.Join(
		spec.Variables[bpfVarParkingIfindex].Set(uint32(p.index)),
		spec.Variables[bpfVarReplayCookie].Set(p.replay.cookie),
		spec.Variables[bpfVarCountMulticast].Set(multicast),
		spec.Variables[bpfVarMasks].Set(netmasks()),
		spec.Variables[bpfVarHashFactors].Set(newHashFactors()),
	)
}

// shared is what stays when the tables are replaced: the programs on the
// hooks, and the maps that do not grow.
type shared struct {
	Egress   *ebpf.Program `ebpf:"lazybpf_egress"`
	Ingress  *ebpf.Program `ebpf:"lazybpf_ingress"`
	Programs *ebpf.Map     `ebpf:"programs"`
	Events   *ebpf.Map     `ebpf:"events"`
	Stats    *ebpf.Map     `ebpf:"stats"`
	Rules    *ebpf.Map     `ebpf:"rules"`
}

func newShared(spec *ebpf.CollectionSpec) (*shared, error) {
	s := new(shared)
	if err := spec.Copy().LoadAndAssign(s, nil); err != nil {
		return nil, fmt.Errorf("load BPF programs: %w", err)
	}
	return s, nil
}

func (s *shared) replacements() map[string]*ebpf.Map {
	return map[string]*ebpf.Map{bpfMapEvents: s.Events, bpfMapStats: s.Stats, bpfMapRules: s.Rules}
}

// run makes packets go through the programs of these tables.
func (s *shared) run(t *tables) error {
	return errors.Join(
		s.Programs.Put(bpfDirectionDIRECTION_EGRESS, t.PeerEgress),
		s.Programs.Put(bpfDirectionDIRECTION_INGRESS, t.PeerIngress),
	)
}

func (s *shared) close() error {
	return errors.Join(s.Egress.Close(), s.Ingress.Close(),
		s.Programs.Close(), s.Events.Close(), s.Stats.Close(), s.Rules.Close())
}

// Events gives the events, in the order in which the packets came, but for what
// Arm says of packets that were on their way. It is the same channel each time,
// with room for 1024, and is closed by Close. While nobody takes them events wait
// in the kernel, and when that has no more room peers stay armed: see Stats.
// The peer of an event may have been opened, armed anew or removed since.
func (d *Detector) Events() <-chan Event { return d.events }

// Attached says which hook serves: "tcx", or "clsact" on kernels before 6.6.
func (d *Detector) Attached() string { return d.hooks.String() }

// Stats is what was seen on the device since New and counts for no peer, in
// packets. What the kernel handles as one packet (GRO, GSO) is one here.
type Stats struct {
	Unrouted  uint64 // no peer's prefixes match
	Ignored   uint64 // link-local multicast and limited broadcast
	Malformed uint64 // no IP packet
	// EventsLost counts the packets that should have raised an event while the
	// ring buffer was full. The next packet of the peer did it instead.
	EventsLost uint64
}

// Stats reads the counters. Error: ErrClosed.
func (d *Detector) Stats() (Stats, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return Stats{}, ErrClosed
	}
	var c bpfCounters
	if err := d.shared.Stats.Lookup(uint32(0), &c); err != nil {
		return Stats{}, fmt.Errorf("read stats: %w", err)
	}
	return Stats{Unrouted: c.Unrouted, Ignored: c.Ignored, Malformed: c.Malformed, EventsLost: c.EventsLost}, nil
}

// Close detaches the detector, sends what is still held, and removes all that
// it has made. Events that nobody has taken are lost, and methods return
// ErrClosed from then on. Closing again does nothing.
func (d *Detector) Close() error {
	var err error
	d.once.Do(func() { err = d.close() })
	return err
}

func (d *Detector) close() error {
	d.mu.Lock()
	if d.hooks == nil {
		d.closed = true // never seen by anyone
	}
	d.mu.Unlock()

	var errs []error
	if d.hooks != nil {
		errs = append(errs, d.hooks.Close())
		awaitReaders()
	}
	if d.ring != nil {
		close(d.closing)
		errs = append(errs, d.ring.Close())
		for range d.events { // until its reader has ended
		}
	}
	if d.parking != nil {
		if d.hooks != nil {
			errs = append(errs, d.parking.do((*parking).releaseAll))
		}
		errs = append(errs, d.parking.close())
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	errs = append(errs, d.pins.remove())
	if d.tables != nil {
		errs = append(errs, d.tables.close())
	}
	if d.shared != nil {
		errs = append(errs, d.shared.close())
	}
	if d.netlink != nil {
		d.netlink.Close()
	}
	return errors.Join(errs...)
}
