// SPDX-License-Identifier: Apache-2.0

// Package lazy keeps WireGuard peers dormant until a packet needs them.
//
// A Manager has the peers of one interface. It learns from a Detector which
// peers are talked to, and has a Connector make peers reachable and let go of
// them again; both are interfaces, so that a mesh VPN brings its own way to
// connect. *detect.Detector is the Detector of kernel and userspace WireGuard.
//
//	               packet, request                  Open returned
//	     ┌────────┐ ─────────────► ┌────────────┐ ─────────────► ┌───────────┐
//	───► │  idle  │                │ connecting │                │ connected │ ◄───
//	     └────────┘ ◄───────────── └────────────┘                └───────────┘
//	       ▲    ▲     Open failed                                   │     ▲ │
//	       │    └─ back off, retry                                  │     └─┘ traffic
//	       └────────────────────────────────────────────────────────┘
//	                 silent for the threshold, or told to sleep
//
// Peers added by AddPeer start idle, those added by AddActivePeers connected.
// Peers on the exclude list are permanent: they are opened and stay so.
package lazy
