// SPDX-License-Identifier: Apache-2.0

// Package e2e has the tests of lazybpf as a whole: the daemon at work on a real WireGuard interface, with real packets. It
// holds nothing but tests.
//
// The networks are those of package lab, which draws them. A test that needs another draws it.
package e2e
