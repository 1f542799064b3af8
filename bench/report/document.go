// SPDX-License-Identifier: Apache-2.0

package main

import (
	_ "embed"
	"fmt"
	"strings"
	"text/template"
)

//go:embed document.md.tmpl
var source string

// document is docs/benchmarks.md. What was not measured reads "?".
func (r *results) document() (string, error) {
	page, err := template.New("document").Funcs(template.FuncMap{
		"about":  func(key string) string { return r.about[key] },
		"table":  r.table,
		"limits": r.limits,
		"get": func(name, unit, format string) string {
			value, ok := r.get(name, unit)
			if !ok {
				return "?"
			}
			return fmt.Sprintf(format, value)
		},
		"growth": r.growthTable,
	}).Parse(source)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	err = page.Execute(&text, nil)
	return text.String(), err
}

// growthTable has a line for each benchmark that matches.
func (r *results) growthTable(pattern string, units ...string) string {
	var text strings.Builder
	fmt.Fprintf(&text, "| | %s |\n|---%s|\n", strings.Join(units, " | "), strings.Repeat("|---", len(units)))
	for _, name := range r.matching(pattern) {
		_, short, _ := strings.Cut(name, ".")
		fmt.Fprintf(&text, "| %s |", strings.ReplaceAll(short, "_", " "))
		for _, unit := range units {
			if value, ok := r.get(name, unit); ok {
				fmt.Fprintf(&text, " %.4g |", value)
			} else {
				text.WriteString(" – |")
			}
		}
		text.WriteString("\n")
	}
	return text.String()
}
