// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/*
 * lazybpf: sees which WireGuard peers are talked to.
 *
 * Two programs stand on the WireGuard device, one on each tc hook. Each finds
 * the peer of a packet by cryptokey routing, counts the packet in the peer's
 * record and, when the peer's gate asks for it, tells user space who woke it.
 * On egress the gate may also hold the packet back: it then goes to a TUN
 * device of the daemon, the parking device, and comes back through a packet
 * socket that only the daemon has.
 *
 * The programs observe. Whatever they do not understand goes on its way.
 */

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/*
 * What a peer's gate asks for: four bits, and names for the sets of them that
 * occur. bpftool prints the names.
 */
enum gate {
	GATE_OPEN = 0,
	GATE_EGRESS = 1,  /* the next packet to the peer raises an event */
	GATE_INGRESS = 2, /* the next packet from the peer raises an event */
	GATE_HOLD = 4,	  /* packets to the peer go to the parking device */
	GATE_DRAIN = 8,	  /* but pass as soon as nothing waits before them */

	GATE_ARMED = GATE_EGRESS | GATE_INGRESS,
	GATE_ARMED_HOLD = GATE_ARMED | GATE_HOLD,
	GATE_WOKEN_HOLD = GATE_INGRESS | GATE_HOLD,
	GATE_DRAINING = GATE_HOLD | GATE_DRAIN,
};

#define NO_UID 0xffffffffU /* no local socket sent the packet */

/* What a packet counts as: a set of two bits. */
enum effect {
	EFFECT_IGNORED = 0,
	EFFECT_WAKES = 1,	/* an armed gate sees it */
	EFFECT_KEEPS_AWAKE = 2, /* the record's times show it */

	EFFECT_COUNTS = EFFECT_WAKES | EFFECT_KEEPS_AWAKE, /* unless a rule says otherwise */
};

enum direction {
	DIRECTION_EGRESS,
	DIRECTION_INGRESS,
};

/*
 * A peer's record: one cache line, shared with user space by mmap.
 *
 * held counts the packets sent to the parking device, released those that
 * user space has taken off its hands since. Where they are equal nothing of
 * this peer waits.
 */
struct peer {
	enum gate gate;
	__u16 generation;
	__u16 rules;   /* the peer's set of them; 0: none */
	__u64 last_tx; /* CLOCK_MONOTONIC_COARSE, ns; 0: never */
	__u64 last_rx;
	__u64 tx_packets;
	__u64 tx_bytes; /* IP headers included, WireGuard's own not */
	__u64 rx_packets;
	__u64 rx_bytes;
	__u32 held;
	__u32 released;
};

struct event {
	__u64 time; /* CLOCK_MONOTONIC, ns */
	__u32 slot;
	__u32 generation;
	enum direction direction;
	__u32 mark;
	__u32 uid;
	__u32 length;
	__u32 captured;	  /* bytes of packet that are valid */
	__u8 packet[100]; /* its beginning, from the IP header on */
};

/* What was seen on the device and counts for no peer, in packets. */
struct counters {
	__u64 unrouted;	   /* no peer's allowed IPs match */
	__u64 ignored;	   /* link-local multicast and limited broadcast */
	__u64 malformed;   /* no IP packet */
	__u64 events_lost; /* ring buffer full: the next packet tries again */
};

/* Says what the packets count as that match all of it. */
struct rule {
	__u16 first_port; /* of the source or of the destination */
	__u16 last_port;  /* 0: packets without ports, too */
	__u8 protocol;	  /* 0: any */
	__u8 directions;  /* of enum direction, a bit each; 0 ends the set */
	__u8 effect;
	__u8 reserved;
};

/* The first rule that matches decides. */
#define MAX_RULES 16
struct rule_set {
	struct rule rules[MAX_RULES];
	struct rule end; /* so that a pointer may stand behind the last one without CAP_PERFMON */
};

/*
 * An allowed IP and whose it is. User space writes the tag last, and changes
 * nothing but the owner afterwards: what is found is whole.
 */
struct route {
	__u32 tag;	  /* of its hash and its element, see below; 0: there is none yet */
	__u32 owner;	  /* slot plus one; 0: nobody any more */
	__u64 address[2]; /* host byte order, an IPv4 address in the last half */
};

/* Two cache lines of the hash table of routes. */
#define BUCKET_ROUTES 5
struct bucket {
	struct route routes[BUCKET_ROUTES];
	__u32 overflows; /* into the next bucket */
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct peer);
} peers SEC(".maps");

/*
 * Allowed IPs to slots: a hash table that user space writes by mmap, 2^n
 * buckets. In a map of type hash one look-up costs twice as much as all that
 * these programs do. Lengths that are in use are listed in next.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 512);
	__type(key, __u32);
	__type(value, struct bucket);
} routes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} stats SEC(".maps");

/*
 * The sets of rules in use; 0 is none. User space writes to a set only while no
 * packet can be looking at it. An index fits in a byte: see interface_rules.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct rule_set);
} rules SEC(".maps");

/*
 * The way from the programs on the hooks to those that do the work. It is not
 * pinned: the kernel empties it when the daemon dies, and a tc filter that
 * outlives the daemon lets everything through from then on.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} programs SEC(".maps");

/*
 * The prefix lengths in use, longest first, as two lists, one of each address
 * family: each element holds the next one, 0 ends the list. An element is a
 * length plus 1 in IPv6, plus 130 in IPv4. User space changes a list with single
 * byte stores, a reader always finds a whole list. There is an element for
 * every byte: none leads out of the array.
 */
#define HEAD4 255
#define HEAD6 254
volatile __u8 next[256];

/*
 * The netmask of each element. Worked out here it would be branches, which were
 * nine tenths of what the verifier had to follow, at each start and each time
 * the tables grow.
 */
const volatile __u64 masks[256][2];

/* Odd random numbers, so that nobody can choose addresses that share a bucket. */
const volatile __u64 hash_factors[3];
const volatile __u32 routes_shift; /* of a hash, to the index of its bucket */

/* The set of rules that is tried after the peer's own. One byte: see above. */
volatile __u8 interface_rules;

const volatile __u32 parking_ifindex;
const volatile __u64 replay_cookie; /* of the socket that replays held packets */
const volatile __u8 count_multicast;

#define count(field, n) __sync_fetch_and_add(&(field), n)

static __always_inline struct counters *statistics(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&stats, &zero);
}

#define count_stat(name)                                     \
	do {                                                 \
		struct counters *statistics_ = statistics(); \
		if (statistics_)                             \
			count(statistics_->name, 1);         \
	} while (0)

/* An address under the netmask of an element, and where to look for it. */
struct route_key {
	__u64 address[2];
	__u32 tag;
	__u32 bucket;
};

static __always_inline struct route_key key_of(__u64 high, __u64 low, __u8 element)
{
	__u64 masked[2] = {high & masks[element][0], low & masks[element][1]};
	__u64 hash = masked[0] * hash_factors[0] + masked[1] * hash_factors[1] +
		     element * hash_factors[2];

	/* Once more: the multiples of some numbers, as of addresses in a row, lie together. */
	hash = (hash ^ hash >> 32) * hash_factors[2];
	return (struct route_key){
		.address = {masked[0], masked[1]},
		.tag = (hash >> 16 & 0xffffff00) | element,
		.bucket = hash >> routes_shift,
	};
}

/*
 * The owner of the prefix of this length, in whatever bucket it is. If there is
 * none, then the next element, negative; 0 after the last one.
 */
__noinline int search_length(__u64 high, __u64 low, __u32 element)
{
	struct route_key key = key_of(high, low, element);
	__u32 last = ~0ULL >> routes_shift;

	for (int i = 0; i < 8; i++) {
		__u32 index = (key.bucket + i) & last;
		struct bucket *bucket = bpf_map_lookup_elem(&routes, &index);

		if (!bucket)
			break;
#pragma unroll
		for (int n = 0; n < BUCKET_ROUTES; n++) {
			struct route *route = &bucket->routes[n];

			if (route->tag == key.tag && route->address[0] == key.address[0] &&
			    route->address[1] == key.address[1] && route->owner)
				return route->owner;
		}
		if (!bucket->overflows)
			break;
	}
	return -next[element & 0xff];
}

/* What find_route does, from this element on, whatever it takes. */
__noinline int search_routes(__u64 high, __u64 low, __u32 element)
{
	/* Unrolled, since under speculation the verifier finds no end of such a short loop. */
#pragma unroll
	for (int i = 0; i <= 128; i++) {
		int found = search_length(high, low, element);

		if (found >= 0)
			return found;
		element = -found;
	}
	return 0;
}

/*
 * Longest prefix match: the owner of the route, one look-up for each length in
 * use. What is unusual is left to search_routes, which costs a call for each
 * length. Nothing but the loop itself leads from one length to the next: where
 * paths meet in a loop, the verifier follows each combination of them.
 */
static __always_inline __u32 find_route(__u64 high, __u64 low, __u8 element)
{
	for (int i = 0; i <= 128 && element; i++) {
		struct route_key key = key_of(high, low, element);
		struct bucket *bucket = bpf_map_lookup_elem(&routes, &key.bucket);

		if (!bucket)
			return 0;
#pragma unroll
		for (int n = 0; n < BUCKET_ROUTES; n++) {
			struct route *route = &bucket->routes[n];

			if (route->tag != key.tag)
				continue;
			if (route->address[0] == key.address[0] &&
			    route->address[1] == key.address[1] && route->owner)
				return route->owner;
			return search_routes(high, low, element);
		}
		if (bucket->overflows)
			return search_routes(high, low, element);
		element = next[element];
	}
	return 0;
}

/* 224.0.0.0/24 and 255.255.255.255: MLD, mDNS and their like wake nobody. */
static __always_inline int is_local4(__be32 destination)
{
	return (destination & bpf_htonl(0xffffff00)) == bpf_htonl(0xe0000000) ||
	       destination == 0xffffffff;
}

/* ff02::/16, and with any flags: many programs look for each other in ff12::/16. */
static __always_inline int is_local6(__be32 destination)
{
	return (destination & bpf_htonl(0xff0f0000)) == bpf_htonl(0xff020000);
}

/* A pointer that is half a register in C. Volatile: the compiler must not copy that half. */
#define packet_pointer(field) ((void *)(long)*(volatile __u32 *)&(field))

/*
 * Makes the first n bytes of the packet readable; 0 if it has fewer. The
 * pointer is no return value: without CAP_PERFMON none may be compared to NULL.
 */
static __always_inline int header(struct __sk_buff *skb, __u32 n, void **packet)
{
	void *data = packet_pointer(skb->data), *end = packet_pointer(skb->data_end);

	if (data + n > end) {
		if (bpf_skb_pull_data(skb, n))
			return 0;
		data = packet_pointer(skb->data);
		end = packet_pointer(skb->data_end);
		if (data + n > end)
			return 0;
	}
	*packet = data;
	return 1;
}

/*
 * The record of the packet's peer, and its slot. The device has no link layer
 * header, and skb->protocol is what the sender said: the version nibble decides.
 */
static __always_inline struct peer *find_peer(struct __sk_buff *skb, enum direction direction,
					      __u32 *slot)
{
	__u64 high = 0, low;
	struct ipv6hdr *ip6;
	struct iphdr *ip4;
	__be32 *address;
	__u32 owner, version;
	__u8 longest;
	void *packet;

	if (!header(skb, sizeof(*ip4), &packet))
		goto malformed;
	ip4 = packet;
	version = *(__u8 *)packet >> 4; /* a bit field would follow the headers' endianness */
	if (version == 4) {
		if (is_local4(ip4->daddr) && !count_multicast)
			goto ignored;
		low = bpf_ntohl(direction == DIRECTION_EGRESS ? ip4->daddr : ip4->saddr);
		longest = next[HEAD4];
	} else if (version == 6) {
		if (!header(skb, sizeof(*ip6), &packet))
			goto malformed;
		ip6 = packet;
		if (is_local6(ip6->daddr.in6_u.u6_addr32[0]) && !count_multicast)
			goto ignored;
		address = direction == DIRECTION_EGRESS ? ip6->daddr.in6_u.u6_addr32
							: ip6->saddr.in6_u.u6_addr32;
		high = (__u64)bpf_ntohl(address[0]) << 32 | bpf_ntohl(address[1]);
		low = (__u64)bpf_ntohl(address[2]) << 32 | bpf_ntohl(address[3]);
		longest = next[HEAD6];
	} else {
		goto malformed;
	}
	owner = find_route(high, low, longest);
	if (!owner)
		goto unrouted;
	*slot = owner - 1;
	return bpf_map_lookup_elem(&peers, slot);

unrouted:
	count_stat(unrouted);
	return NULL;
malformed:
	count_stat(malformed);
	return NULL;
ignored:
	count_stat(ignored);
	return NULL;
}

/*
 * CLOCK_MONOTONIC_COARSE, not older than two ticks and a millisecond. The helper
 * costs more than the rest of the program, the JIT reads jiffies by itself: so it
 * is asked once a tick. One word has both, in units of 2^20 ns and modulo 2^24
 * ticks: they fit together without a barrier.
 */
volatile __u64 clock;

static __always_inline __u64 coarse_time(void)
{
	__u64 tick = bpf_jiffies64() & 0xffffff, now = clock;

	if ((now & 0xffffff) != tick)
		clock = now = bpf_ktime_get_coarse_ns() >> 20 << 24 | tick;
	return now >> 24 << 20;
}

/*
 * What rules look at, in one number. Ports that a packet does not have are 0.
 * Where it has them, their offset is in the bits from 40 on.
 */
#define TRAITS(protocol, source, destination) \
	((__u64)(protocol) << 32 | (__u64)(source) << 16 | (destination))

/* Of a packet in which this protocol begins here. */
static __always_inline __u64 traits_at(struct __sk_buff *skb, __u8 protocol, __u32 offset)
{
	__be16 ports[2];

	if ((protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE ||
	     protocol == IPPROTO_SCTP || protocol == IPPROTO_DCCP) &&
	    !bpf_skb_load_bytes(skb, offset, ports, sizeof(ports)))
		return (__u64)offset << 40 |
		       TRAITS(protocol, bpf_ntohs(ports[0]), bpf_ntohs(ports[1]));
	return TRAITS(protocol, 0, 0);
}

static __always_inline __u64 traits4(struct __sk_buff *skb)
{
	struct iphdr ip4;
	__u32 length;

	if (bpf_skb_load_bytes(skb, 0, &ip4, sizeof(ip4)))
		return 0;
	length = (*(__u8 *)&ip4 & 0xf) * 4;
	if (length < sizeof(ip4) || ip4.frag_off & bpf_htons(0x1fff))
		return TRAITS(ip4.protocol, 0, 0);
	return traits_at(skb, ip4.protocol, length);
}

/* Looks behind as many extension headers as an event has room for. */
static __always_inline __u64 traits6(struct __sk_buff *skb)
{
	__u32 offset = sizeof(struct ipv6hdr);
	struct ipv6hdr ip6;
	__u8 protocol, extension[8];

	if (bpf_skb_load_bytes(skb, 0, &ip6, sizeof(ip6)))
		return 0;
	protocol = ip6.nexthdr;
	for (int i = 0; i < 8; i++) {
		if (protocol != IPPROTO_HOPOPTS && protocol != IPPROTO_ROUTING &&
		    protocol != IPPROTO_DSTOPTS && protocol != IPPROTO_FRAGMENT)
			return traits_at(skb, protocol, offset);
		if (bpf_skb_load_bytes(skb, offset, extension, sizeof(extension)))
			break;
		offset += sizeof(extension);
		if (protocol == IPPROTO_FRAGMENT) {
			if (extension[2] || extension[3] & 0xf8) /* not the first one */
				return TRAITS(extension[0], 0, 0);
		} else {
			offset += 8 * extension[1];
			if (offset > skb->len)
				break;
		}
		protocol = extension[0];
	}
	return TRAITS(protocol, 0, 0);
}

/*
 * This function and those up to effect_by_rules are not static: the verifier
 * then looks at each of them once, whatever led to it. Following all paths
 * through all rules it would not get to the end.
 */
__noinline __u64 read_traits(struct __sk_buff *skb)
{
	__u8 version;

	if (bpf_skb_load_bytes(skb, 0, &version, sizeof(version)))
		return 0;
	return version >> 4 == 4 ? traits4(skb) : traits6(skb);
}

/* How many segments an skb has of which only their size is known. */
__noinline __u32 count_segments(struct __sk_buff *skb)
{
	__u64 traits = read_traits(skb);
	__u32 headers = traits >> 40, size = skb->gso_size;
	__u8 words;

	if ((__u8)(traits >> 32) != IPPROTO_TCP)
		headers += sizeof(struct udphdr);
	else if (!bpf_skb_load_bytes(skb, headers + 12, &words, sizeof(words)))
		headers += (words >> 4) * 4; /* data offset */
	if (!size || skb->len <= headers)
		return 1;
	return (skb->len - headers + size - 1) / size;
}

__noinline int matches(const struct rule *rule, __u64 traits, __u32 direction)
{
	__u8 protocol = traits >> 32;
	__u16 source = traits >> 16, destination = traits;

	if (!rule || !(rule->directions & 1 << direction))
		return 0;
	if (rule->protocol && rule->protocol != protocol)
		return 0;
	if (!rule->last_port)
		return 1;
	return (source || destination) &&
	       ((source >= rule->first_port && source <= rule->last_port) ||
		(destination >= rule->first_port && destination <= rule->last_port));
}

/* What the packet counts as by the rules of its peer, then of the interface. */
__noinline int effect_by_rules(struct __sk_buff *skb, __u32 peer_rules, __u32 direction)
{
	__u32 sets[] = {peer_rules, interface_rules};
	__u64 traits = read_traits(skb);

	for (int n = 0; n < 2; n++) {
		struct rule_set *set = bpf_map_lookup_elem(&rules, &sets[n]);

		/* Unrolled, since in a loop a pointer would get to the set's end. */
#pragma unroll
		for (int i = 0; i < MAX_RULES; i++) {
			if (!set || !set->rules[i].directions)
				break;
			if (matches(&set->rules[i], traits, direction))
				return set->rules[i].effect;
		}
	}
	return EFFECT_COUNTS;
}

static __always_inline __u32 effect_of(struct __sk_buff *skb, const struct peer *peer,
				       enum direction direction)
{
	__u32 own = *(volatile __u16 *)&peer->rules;

	if (!own && !interface_rules)
		return EFFECT_COUNTS;
	return effect_by_rules(skb, own, direction);
}

/*
 * GRO and GSO make one skb of many packets. One that comes from a TUN device, as
 * wireguard-go's do, does not say how many.
 */
static __always_inline __u32 packets(struct __sk_buff *skb)
{
	if (!skb->gso_size)
		return 1;
	return skb->gso_segs ?: count_segments(skb);
}

/* What user space wants to know about the packet. Seldom run: kept out of the way. */
static __noinline void describe(struct event *event, struct __sk_buff *skb,
				enum direction direction)
{
	__u32 captured = skb->len;

	event->time = bpf_ktime_get_ns();
	event->direction = direction;
	event->mark = skb->mark;
	event->uid = NO_UID;
	if (direction == DIRECTION_EGRESS && bpf_get_socket_cookie(skb))
		event->uid = bpf_get_socket_uid(skb);
	event->length = skb->len;
	if (captured > sizeof(event->packet))
		captured = sizeof(event->packet);
	/* Before Linux 6.8 a comparison with 0 tells the verifier nothing; this one does. */
	if (captured < sizeof(struct iphdr) || bpf_skb_load_bytes(skb, 0, event->packet, captured))
		captured = 0;
	event->captured = captured;
}

/*
 * Takes bits off the gate and tells user space which packet did so. Of packets
 * on several CPUs one does it. With the ring buffer full none does: the bits
 * stay, and the next packet tries again.
 */
static __noinline void raise(struct __sk_buff *skb, struct peer *peer, __u32 slot,
			     enum direction direction, __u32 bits)
{
	struct event *event;

	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		count_stat(events_lost);
		return;
	}
	if (!(__sync_fetch_and_and((__u32 *)&peer->gate, ~bits) & bits)) {
		/*
		 * With a wake-up: the kernel wakes the reader only for the
		 * record that it waits at, which may be this one, and the
		 * events behind it would not be read until the next one.
		 */
		bpf_ringbuf_discard(event, 0);
		return;
	}
	event->slot = slot;
	event->generation = peer->generation;
	describe(event, skb, direction);
	bpf_ringbuf_submit(event, 0);
}

/*
 * The gate that a packet has to wait before, or GATE_OPEN if it may pass. It
 * counts as held before the gate is read: user space opens the gate only when
 * none is held, so a packet that waits keeps it closed until it is on its way,
 * and later ones behind it.
 *
 * A packet that does not wake is WireGuard's to answer until another one wakes
 * the peer. From then on it waits like all, in its place.
 */
static __noinline __u32 hold(struct __sk_buff *skb, struct peer *peer, __u32 effect)
{
	__u32 gate, held, n = packets(skb);

	held = __sync_fetch_and_add(&peer->held, n);
	gate = *(volatile enum gate *)&peer->gate;
	if (gate & GATE_DRAIN && held == *(volatile __u32 *)&peer->released)
		gate = GATE_OPEN;
	if (gate & GATE_EGRESS && !(effect & EFFECT_WAKES))
		gate = GATE_OPEN;
	if (gate & GATE_HOLD)
		return gate;
	count(peer->held, -n);
	return GATE_OPEN;
}

SEC("tc")
int peer_egress(struct __sk_buff *skb)
{
	struct peer *peer;
	__u32 gate, effect, slot;

	peer = find_peer(skb, DIRECTION_EGRESS, &slot);
	if (!peer)
		return TC_ACT_UNSPEC; /* not ours to judge */

	effect = effect_of(skb, peer, DIRECTION_EGRESS);
	gate = *(volatile enum gate *)&peer->gate;
	if (gate & GATE_HOLD) {
		if (bpf_get_socket_cookie(skb) != replay_cookie &&
		    (gate = hold(skb, peer, effect))) {
			/* An answer may yet show that the peer is there: see peer_ingress. */
			if (gate & GATE_EGRESS)
				raise(skb, peer, slot, DIRECTION_EGRESS, GATE_EGRESS);
			/* The sender sees success, whichever hook this is. */
			return bpf_redirect(parking_ifindex, 0);
		}
	} else if (gate && effect & EFFECT_WAKES) {
		raise(skb, peer, slot, DIRECTION_EGRESS, GATE_EGRESS | GATE_INGRESS);
	}

	if (effect & EFFECT_KEEPS_AWAKE)
		peer->last_tx = coarse_time();
	count(peer->tx_packets, packets(skb));
	count(peer->tx_bytes, skb->len);
	return TC_ACT_UNSPEC; /* WireGuard and other programs go on with it */
}

SEC("tc")
int peer_ingress(struct __sk_buff *skb)
{
	struct peer *peer;
	__u32 gate, effect, slot;

	peer = find_peer(skb, DIRECTION_INGRESS, &slot);
	if (!peer)
		return TC_ACT_UNSPEC;

	effect = effect_of(skb, peer, DIRECTION_INGRESS);
	gate = *(volatile enum gate *)&peer->gate;
	if (gate & GATE_INGRESS && effect & EFFECT_WAKES) {
		raise(skb, peer, slot, DIRECTION_INGRESS, GATE_EGRESS | GATE_INGRESS);
		/*
		 * WireGuard has a session with this peer, so what goes to it need
		 * not be held. What is held already must go first: then user
		 * space opens the gate, on this event. It may also have armed the
		 * gate anew by now, or be opening it.
		 */
		if (*(volatile __u32 *)&peer->held == *(volatile __u32 *)&peer->released)
			__sync_val_compare_and_swap((__u32 *)&peer->gate, GATE_HOLD, GATE_OPEN);
	}

	if (effect & EFFECT_KEEPS_AWAKE)
		peer->last_rx = coarse_time();
	count(peer->rx_packets, packets(skb));
	count(peer->rx_bytes, skb->len);
	return TC_ACT_UNSPEC;
}

/* The programs that stand on the hooks. */

SEC("tc")
int lazybpf_egress(struct __sk_buff *skb)
{
	bpf_tail_call_static(skb, &programs, DIRECTION_EGRESS);
	return TC_ACT_UNSPEC; /* the daemon is gone: WireGuard works as without it */
}

SEC("tc")
int lazybpf_ingress(struct __sk_buff *skb)
{
	bpf_tail_call_static(skb, &programs, DIRECTION_INGRESS);
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
