// SPDX-License-Identifier: Apache-2.0

// Package lazybpf is the root of the module and the one entry to generation:
// `make generate` runs it with the pinned compiler and commits nothing itself.
package lazybpf

//go:generate go tool bpf2go -output-dir pkg/detect -go-package detect -target bpfel,bpfeb -type peer -type event -type counters -type gate -type direction -type bucket -type route -type rule -type rule_set bpf bpf/lazybpf.c -- -O2 -mcpu=v3 -Wall -Werror -I/usr/include/x86_64-linux-gnu
