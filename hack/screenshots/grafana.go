// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// dashboard is Grafana's JSON, as far as ours has it.
type dashboard struct {
	Title      string
	Templating struct{ List []variable }
	Panels     []panel
}

type variable struct {
	Name, Label, Type string
	Query             any // text, or an object with a query
	Current           struct{ Text string }
}

type panel struct {
	Title, Type string
	GridPos     struct{ X, Y, W, H int }
	Targets     []struct {
		Expr, LegendFormat string
		Instant            bool
	}
	FieldConfig     struct{ Defaults field }
	Transformations []struct {
		ID      string
		Options organize
	}
	curves []curve
}

// field is how values look.
type field struct {
	Unit     string
	Decimals *int
	Min      *float64
	Mappings []mapping
	Custom   struct {
		LineWidth   *float64
		FillOpacity float64
		Stacking    struct{ Mode string }
	}
}

// organize is the transformation of that name: which columns a table has.
type organize struct {
	ExcludeByName map[string]bool
	IndexByName   map[string]int
	RenameByName  map[string]string
}

// mapping says that a value, or a range of them, is shown as a text.
type mapping struct {
	Type    string
	Options json.RawMessage
}

type mapped struct{ Text, Color string }

// curve is a series with the name that it has in the legend.
type curve struct {
	series
	name string
}

func readDashboard(path string) (*dashboard, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	d := new(dashboard)
	if err := json.Unmarshal(text, d); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

// dataInterval is what Grafana would know as the data source's interval between scrapes, and shows as a step. It is longer
// than ours: a rate is taken over four of them, and so that of a day with few wakes can be read.
const dataInterval = 5 * time.Second

// evaluate has Prometheus answer each panel's queries, as Grafana asks them. A query without an answer is an error.
func (d *dashboard) evaluate(ctx context.Context, p *prometheus, from, to time.Time) error {
	variables := map[string]string{
		"__rate_interval": (4 * dataInterval).String(),
		"__range":         to.Sub(from).Round(time.Second).String(),
	}
	reference := regexp.MustCompile(`\$(\w+)`)
	fill := func(text string) string {
		return reference.ReplaceAllStringFunc(text, func(name string) string {
			return cmp.Or(variables[name[1:]], name)
		})
	}
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		query, _ := v.Query.(map[string]any)
		all, err := p.variable(ctx, fill(fmt.Sprint(query["query"])))
		if err != nil {
			return fmt.Errorf("variable %s: %w", v.Name, err)
		}
		variables[v.Name] = all
	}
	for i := range d.Panels {
		if err := d.Panels[i].evaluate(func(expr string, step time.Duration) ([]series, error) {
			return p.query(ctx, fill(expr), from, to, step)
		}); err != nil {
			return fmt.Errorf("panel %q: %w", d.Panels[i].Title, err)
		}
	}
	return nil
}

func (p *panel) evaluate(query func(string, time.Duration) ([]series, error)) error {
	for _, t := range p.Targets {
		step := dataInterval
		if t.Instant {
			step = 0
		}
		all, err := query(t.Expr, step)
		if err != nil {
			return err
		}
		for _, s := range all {
			p.curves = append(p.curves, curve{s, legend(t.LegendFormat, s.labels)})
		}
	}
	return nil
}

// variable is all values of label_values(METRIC, LABEL), as a regular expression.
func (p *prometheus) variable(ctx context.Context, query string) (string, error) {
	parts := regexp.MustCompile(`^label_values\((.*), *(\w+)\)$`).FindStringSubmatch(query)
	if parts == nil {
		return "", fmt.Errorf("%q is not label_values(METRIC, LABEL)", query)
	}
	values, err := p.labelValues(ctx, parts[2], parts[1])
	if err != nil {
		return "", err
	}
	if len(values) == 0 {
		return "", fmt.Errorf("prometheus has nothing for %s", query)
	}
	for i, v := range values {
		values[i] = strings.ReplaceAll(regexp.QuoteMeta(v), `\`, `\\`)
	}
	return "(" + strings.Join(values, "|") + ")", nil
}

// legend is the name of a series.
func legend(format string, labels map[string]string) string {
	return strings.TrimSpace(regexp.MustCompile(`{{\s*(\w+)\s*}}`).ReplaceAllStringFunc(format, func(name string) string {
		return labels[strings.Trim(name, "{} ")]
	}))
}

// show is the text of a value, and its colour if there is one.
func (f field) show(value float64) mapped {
	for _, m := range f.Mappings {
		switch m.Type {
		case "value":
			var texts map[string]mapped
			if json.Unmarshal(m.Options, &texts) == nil {
				if text, ok := texts[fmt.Sprint(value)]; ok {
					return text
				}
			}
		case "range":
			var r struct {
				From, To *float64
				Result   mapped
			}
			if json.Unmarshal(m.Options, &r) == nil && (r.From == nil || value >= *r.From) && (r.To == nil || value <= *r.To) {
				return r.Result
			}
		}
	}
	if f.Decimals != nil {
		value = math.Round(value*math.Pow10(*f.Decimals)) / math.Pow10(*f.Decimals)
	}
	return mapped{Text: units[f.Unit].format(value)}
}

// table is the panel's rows, the first of which has the names of the columns.
func (p panel) table() [][]string {
	var o organize
	for _, t := range p.Transformations {
		o = t.Options
	}
	columns := map[string]bool{"Value": true}
	for _, c := range p.curves {
		for label := range c.labels {
			columns[label] = true
		}
	}
	maps.DeleteFunc(columns, func(name string, _ bool) bool { return o.ExcludeByName[name] })
	names := slices.SortedFunc(maps.Keys(columns), func(a, b string) int {
		return cmp.Or(cmp.Compare(o.IndexByName[a], o.IndexByName[b]), strings.Compare(a, b))
	})
	rows := [][]string{nil}
	for _, name := range names {
		rows[0] = append(rows[0], cmp.Or(o.RenameByName[name], name))
	}
	for _, c := range p.curves {
		var row []string
		for _, name := range names {
			if name == "Value" {
				row = append(row, p.FieldConfig.Defaults.show(c.values[0]).Text)
			} else {
				row = append(row, c.labels[name])
			}
		}
		rows = append(rows, row)
	}
	return rows
}
