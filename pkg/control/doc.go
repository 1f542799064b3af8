// SPDX-License-Identifier: Apache-2.0

// Package control asks a running lazybpf daemon which peers sleep and why the
// others do not, follows what changes, and wakes peers or lets them sleep.
//
// A daemon manages one interface and listens on one Unix socket: [Path] is
// where, unless it was started with --control. [NewClient] takes the path:
//
//	status, err := control.NewClient(control.Path("wg0")).Status(ctx, control.Filter{})
//
// Root may do all. Members of the group that the daemon was given with
// --control-group may call [Client.Status], [Client.CopyStatus] and
// [Client.Subscribe]; all else, and all others, get [ErrForbidden].
//
// On the socket this is HTTP and JSON: docs/api.md has the endpoints, the
// errors, limits, and what version 1 promises. A client of this version works with
// every daemon that serves /v1.
package control
