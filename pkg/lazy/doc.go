// SPDX-License-Identifier: Apache-2.0

// Package lazy keeps WireGuard peers dormant until a packet needs them.
//
// A Manager has the peers of one interface. It learns from a Detector which
// peers are talked to, and has a Connector make peers reachable and let go of
// them again; both are interfaces, so that a mesh VPN brings its own way to
// connect. *detect.Detector is the Detector of kernel and userspace WireGuard.
//
//	             packet, request, group              Open returned,
//	                                                 ReportConnected
//	     ┌────────┐ ─────────────► ┌────────────┐ ─────────────► ┌───────────┐
//	───► │  idle  │                │ connecting │                │ connected │ ◄───
//	     └────────┘ ◄───────────── └────────────┘ ◄───────────── └───────────┘
//	       ▲    ▲     Open failed             ReportDisconnected    │     ▲ │
//	       │    └─ back off, retry                                  │     └─┘ traffic
//	       └────────────────────────────────────────────────────────┘
//	                 silent for the threshold, or told to sleep
//
// Peers added by AddPeer start idle, those added by AddActivePeers connected.
// Peers on the exclude list are permanent: they are opened and stay so. Members
// of a group wake together, and none sleeps while another is active.
//
// Opens are limited, in number at once and in rate; what waits is held, and
// what somebody asks for goes first. An Open that fails is tried again by the
// first packet after a back-off of 1 s to 5 min, or at once on request.
//
// A dormant peer costs an entry in a few maps: no timer, no goroutine, no socket.
// With Options.EvictAfter it is in the end taken off the device, too.
package lazy
