// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// results are those of a run: of each benchmark, named "detect.Arm/peers=1000",
// and each unit all values.
type results struct {
	about  map[string]string // "cpu", "kernel": lines "key: value"
	values map[string]map[string][]float64
	names  []string // in the order of the run
}

// parse reads the format of the Go benchmarks, which benchstat reads too.
func parse(in io.Reader) (*results, error) {
	r := &results{about: make(map[string]string), values: make(map[string]map[string][]float64)}
	procs := regexp.MustCompile(`-\d+$`)
	pkg := ""
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		line := lines.Text()
		if key, value, ok := strings.Cut(line, ": "); ok && !strings.ContainsAny(key, " \t") {
			r.about[key] = value
			if key == "pkg" {
				pkg = path.Base(value)
			}
			continue
		}
		name, isResult := strings.CutPrefix(line, "Benchmark")
		fields := strings.Fields(name)
		if !isResult || len(fields) < 4 {
			continue
		}
		name = pkg + "." + procs.ReplaceAllString(fields[0], "")
		if r.values[name] == nil {
			r.values[name] = make(map[string][]float64)
			r.names = append(r.names, name)
		}
		for i := 2; i+1 < len(fields); i += 2 {
			value, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			r.values[name][fields[i+1]] = append(r.values[name][fields[i+1]], value)
		}
	}
	return r, lines.Err()
}

// get is the median of what a benchmark has measured in that unit.
func (r *results) get(name, unit string) (median float64, ok bool) {
	values := slices.Sorted(slices.Values(r.values[name][unit]))
	if len(values) == 0 {
		return 0, false
	}
	return values[len(values)/2], true
}

// matching are the benchmarks whose whole name matches, in the order of the run.
func (r *results) matching(pattern string) (names []string) {
	match := regexp.MustCompile("^(" + pattern + ")$")
	for _, name := range r.names {
		if match.MatchString(name) {
			names = append(names, name)
		}
	}
	return names
}

// highest is the largest figure of the benchmarks that match.
func (r *results) highest(pattern, unit string) (highest float64, ok bool) {
	for _, name := range r.matching(pattern) {
		if value, has := r.get(name, unit); has {
			highest, ok = max(highest, value), true
		}
	}
	return highest, ok
}

// point is a figure at a number of peers.
type point struct{ peers, value float64 }

// growth is how a figure grows with the number of peers: that of benchmarks named
// prefix, peers=N, suffix.
func (r *results) growth(prefix, suffix, unit string) (points []point) {
	match := regexp.MustCompile("^" + regexp.QuoteMeta(prefix) + `/peers=(\d+)` + regexp.QuoteMeta(suffix) + "$")
	for _, name := range r.names {
		if m := match.FindStringSubmatch(name); m != nil {
			peers, _ := strconv.ParseFloat(m[1], 64)
			if value, ok := r.get(name, unit); ok {
				points = append(points, point{peers, value})
			}
		}
	}
	return points
}

// quantile is one of a distribution: so many percent are not above value.
type quantile struct{ percent, value float64 }

// distribution is what a benchmark reports as metrics such as "p50-µs".
func (r *results) distribution(name, prefix, unit string) (quantiles []quantile) {
	match := regexp.MustCompile("^" + regexp.QuoteMeta(prefix) + `p([\d.]+)` + regexp.QuoteMeta(unit) + "$")
	for metric := range r.values[name] {
		if m := match.FindStringSubmatch(metric); m != nil {
			percent, _ := strconv.ParseFloat(m[1], 64)
			value, _ := r.get(name, metric)
			quantiles = append(quantiles, quantile{percent, value})
		}
	}
	slices.SortFunc(quantiles, func(a, b quantile) int { return int(10*a.percent) - int(10*b.percent) })
	return quantiles
}
