// SPDX-License-Identifier: Apache-2.0

// Package view is how peers look to a person: their names, order, colours and figures, the table of `lazybpf status`, and
// the terminal it is shown on. An idle peer is asleep and well, and looks like it.
package view
