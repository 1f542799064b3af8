// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"image/color"
	"os"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The grid of a dashboard has 24 columns. All lengths are points.
const (
	columnWidth, rowHeight = 42, 30
	margin                 = 10 // around the whole, and half of it around a panel
	heading                = 34
	padding                = 9 // within a panel
	line                   = 16
)

var (
	ground, board, bright, grey, rule = grayscale(0x11), grayscale(0x1d), grayscale(0xe4), grayscale(0xa6), grayscale(0x33)

	// Okabe and Ito's, for dark ground: people with any kind of sight can tell them apart.
	colours = []color.RGBA{
		{0x56, 0xb4, 0xe9, 0xff}, {0xe6, 0x9f, 0x00, 0xff}, {0x00, 0xb3, 0x83, 0xff}, {0xcc, 0x79, 0xa7, 0xff},
		{0xf0, 0xe4, 0x42, 0xff}, {0xd5, 0x5e, 0x00, 0xff}, {0x33, 0x80, 0xd0, 0xff}, {0xa6, 0xa6, 0xa6, 0xff},
	}
	named = map[string]color.Color{"green": colours[2], "red": colours[5]}
)

func grayscale(y uint8) color.RGBA { return color.RGBA{y, y, y, 0xff} }

func colour(i int) color.RGBA { return colours[i%len(colours)] }

func style(size float64, c color.Color) text.Style {
	return text.Style{Color: c, Font: font.From(plot.DefaultFont, vg.Points(size)), YAlign: draw.YTop, Handler: plot.DefaultTextHandler}
}

func (d *dashboard) draw(ctx context.Context, p *prometheus, from, to time.Time, path string) error {
	if err := d.evaluate(ctx, p, from, to); err != nil {
		return err
	}
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	height := 0
	for _, p := range d.Panels {
		height = max(height, p.GridPos.Y+p.GridPos.H)
	}
	canvas := vgsvg.New(24*columnWidth+2*margin, vg.Length(height*rowHeight+2*margin+heading))
	all := draw.New(canvas)
	fill(all, ground)
	all = draw.Crop(all, margin, -margin, margin, -margin)
	d.heading(draw.Crop(all, margin/2, -margin/2, 0, -4), from, to)
	for _, p := range d.Panels {
		at := p.GridPos
		c := draw.Canvas{Canvas: canvas, Rectangle: vg.Rectangle{
			Min: vg.Point{X: all.Min.X + vg.Length(at.X)*columnWidth, Y: all.Max.Y - heading - vg.Length(at.Y+at.H)*rowHeight},
			Max: vg.Point{X: all.Min.X + vg.Length(at.X+at.W)*columnWidth, Y: all.Max.Y - heading - vg.Length(at.Y)*rowHeight},
		}}
		if err := p.draw(draw.Crop(c, margin/2, -margin/2, margin/2, -margin/2), from, to); err != nil {
			return fmt.Errorf("panel %q: %w", p.Title, err)
		}
	}
	var svg bytes.Buffer
	if _, err := canvas.WriteTo(&svg); err != nil {
		return err
	}
	// Not every machine has the font by which gonum measures.
	return os.WriteFile(path, bytes.ReplaceAll(svg.Bytes(), []byte("Liberation Sans"), []byte("Liberation Sans,Arial,sans-serif")), 0o644)
}

// heading has what is above the panels: of which hosts and interfaces they are, and of what time.
func (d *dashboard) heading(c draw.Canvas, from, to time.Time) {
	at := c.Max
	at.X = c.Min.X
	write := func(s text.Style, words string) {
		c.FillText(s, at, words)
		at.X += s.Width(words) + padding
	}
	write(style(16, bright), d.Title)
	at = at.Add(vg.Point{X: 2 * padding, Y: -3})
	for _, v := range d.Templating.List {
		if v.Type == "query" {
			write(style(12, grey), v.Label)
			write(style(12, bright), v.Current.Text)
		}
	}
	s := style(12, grey)
	words := from.Format(time.DateTime) + " to " + to.Format(time.TimeOnly)
	at.X = c.Max.X - s.Width(words)
	write(s, words)
}

func fill(c draw.Canvas, with color.Color) {
	c.FillPolygon(with, []vg.Point{c.Min, {X: c.Max.X, Y: c.Min.Y}, c.Max, {X: c.Min.X, Y: c.Max.Y}})
}

func (p panel) draw(c draw.Canvas, from, to time.Time) error {
	if unit := p.FieldConfig.Defaults.Unit; units[unit] == nil {
		return fmt.Errorf("hack/screenshots does not know the unit %q", unit)
	}
	for _, t := range p.Transformations {
		if t.ID != "organize" {
			return fmt.Errorf("hack/screenshots cannot %s", t.ID)
		}
	}
	fill(c, board)
	c = draw.Crop(c, padding, -padding, padding, -padding)
	c.FillText(style(12.5, bright), vg.Point{X: c.Min.X, Y: c.Max.Y}, p.Title)
	c = draw.Crop(c, 0, 0, 0, -line-padding)
	switch p.Type {
	case "timeseries":
		return p.graph(c, from, to)
	case "stat":
		p.stat(c)
	case "table":
		p.rows(c)
	default:
		return fmt.Errorf("hack/screenshots cannot draw a %s", p.Type)
	}
	return nil
}

// stat is a large value of each series.
func (p panel) stat(c draw.Canvas) {
	x := c.Min.X
	for _, s := range p.curves {
		shown := p.FieldConfig.Defaults.show(s.values[len(s.values)-1])
		large := style(24, bright)
		if named[shown.Color] != nil {
			large.Color = named[shown.Color]
		}
		if s.name != "" {
			name := style(14, grey)
			c.FillText(name, vg.Point{X: x, Y: c.Max.Y - 8}, s.name)
			x += name.Width(s.name) + padding
		}
		c.FillText(large, vg.Point{X: x, Y: c.Max.Y}, shown.Text)
		x += large.Width(shown.Text) + 3*padding
	}
}

// rows is a table with columns of the same width.
func (p panel) rows(c draw.Canvas) {
	const height = line + 4
	y := c.Max.Y
	for i, row := range p.table() {
		s := style(11.5, grey)
		if i == 0 {
			s.Color = colours[0]
		}
		for j, cell := range row {
			c.FillText(s, vg.Point{X: c.Min.X + vg.Length(j)*(c.Max.X-c.Min.X)/vg.Length(len(row)), Y: y}, cell)
		}
		y -= height
		c.StrokeLine2(draw.LineStyle{Color: rule, Width: 0.7}, c.Min.X, y+4, c.Max.X, y+4)
	}
}
