// SPDX-License-Identifier: Apache-2.0

// Package detect sees which peers of a WireGuard interface are talked to.
//
// A Detector attaches two BPF programs to a network device, one on each tc
// hook. They find a packet's peer by the longest matching prefix, as
// WireGuard's cryptokey routing does, and count it in the peer's record, which
// the process reads through shared memory. A peer that is armed raises an
// Event with its next packet, and only with that. A peer that is armed to hold
// has its outgoing packets kept aside until Open sends them, in order.
//
// Rules take packets out of that, of a peer or of all: those that do not wake,
// and those that do not keep awake. See Effect.
//
// A peer is a set of prefixes here: the package knows nothing of keys,
// endpoints or WireGuard's state. It needs a 64-bit machine, since it shares
// 64-bit counters and times with the kernel, Linux 5.15, and CAP_BPF,
// CAP_NET_ADMIN, CAP_NET_RAW; before Linux 6.18 CAP_PERFMON, too.
//
//	d, err := detect.New(detect.Options{Interface: "wg0"})
//	…
//	id, err := d.Add(allowedIPs)
//	err = d.Arm(id, true)
//	event := <-d.Events() // somebody wants to talk to the peer
//	…                     // make it reachable
//	err = d.Open(id)      // what was held goes out
//
// If the process dies, packets pass as if it had never been there: a tcx link
// goes with the process, and a tc filter, which stays, finds nothing to run.
package detect
