// SPDX-License-Identifier: Apache-2.0

package main

import "fmt"

// unit is one of Grafana's: steps that it is counted in, the greatest first, each used from one of it on.
type unit []step

type step struct {
	size float64
	name string
}

var units = map[string]unit{
	"short": {{1e6, " Mil"}, {1e3, " K"}, {1, ""}},
	"pps":   {{1e6, " Mp/s"}, {1e3, " kp/s"}, {1, " p/s"}},
	"Bps":   {{1e9, " GB/s"}, {1e6, " MB/s"}, {1e3, " kB/s"}, {1, " B/s"}},
	"s":     {{86400, " days"}, {3600, " hours"}, {60, " mins"}, {1, " s"}, {1e-3, " ms"}, {1e-6, " µs"}},
}

func (u unit) format(value float64) string {
	used := step{size: 1}
	for _, s := range u {
		if used = s; value >= s.size || value == 0 && s.size == 1 {
			break
		}
	}
	return fmt.Sprintf("%.3g%s", value/used.size, used.name)
}
