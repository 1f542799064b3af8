// SPDX-License-Identifier: Apache-2.0

package main

import (
	"image/color"
	"math"
	"slices"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// graph draws series over time, above their legend.
func (p panel) graph(c draw.Canvas, from, to time.Time) error {
	c = p.legend(c)
	g := plot.New()
	g.BackgroundColor = color.Transparent
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = rule, rule
	g.Add(grid)
	for _, axis := range []*plot.Axis{&g.X, &g.Y} {
		axis.Padding, axis.Width, axis.Tick.Length, axis.Tick.Color = 0, 0, 5, rule
		axis.Tick.Label.Color, axis.Tick.Label.Font.Size = grey, 10.5
	}
	f := p.FieldConfig.Defaults
	below := make(plotter.XYs, to.Sub(from)/dataInterval+1)
	for i, curve := range p.curves {
		points := curve.points(from, len(below))
		if f.Custom.Stacking.Mode == "normal" {
			for i := range points {
				points[i].Y += below[i].Y
			}
		}
		for _, run := range runs(points) {
			if err := f.plot(g, points[run.begin:run.end], below[run.begin:run.end], colour(i)); err != nil {
				return err
			}
		}
		if f.Custom.Stacking.Mode == "normal" {
			below = points
		}
	}
	g.X.Min, g.X.Max = seconds(from), seconds(to)
	g.X.Tick.Marker = plot.TickerFunc(minutes)
	if f.Min != nil {
		g.Y.Min = *f.Min
	}
	if g.Y.Max <= g.Y.Min {
		g.Y.Max = g.Y.Min + 1
	}
	g.Y.Max += (g.Y.Max - g.Y.Min) * 0.06
	most := float64((c.Max.Y - c.Min.Y) / 26)
	g.Y.Tick.Marker = plot.TickerFunc(func(low, high float64) []plot.Tick { return f.ticks(low, high, most) })
	g.Draw(c)
	return nil
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// points has one at each of so many steps, NaN where the series has none.
func (c curve) points(from time.Time, steps int) plotter.XYs {
	points := make(plotter.XYs, steps)
	for i := range points {
		points[i] = plotter.XY{X: seconds(from.Add(time.Duration(i) * dataInterval)), Y: math.NaN()}
	}
	for i, at := range c.times {
		points[at.Sub(from)/dataInterval].Y = c.values[i]
	}
	return points
}

type run struct{ begin, end int }

// runs are those of points without a gap.
func runs(points plotter.XYs) (all []run) {
	for i, p := range points {
		switch {
		case math.IsNaN(p.Y):
		case i > 0 && !math.IsNaN(points[i-1].Y):
			all[len(all)-1].end++
		default:
			all = append(all, run{i, i + 1})
		}
	}
	return all
}

// plot adds a line, with what is between it and those below if that is to be filled; or a dot, if it is of one point.
func (f field) plot(g *plot.Plot, top, below plotter.XYs, c color.RGBA) error {
	if len(top) == 1 {
		dot, err := plotter.NewScatter(top)
		if err == nil {
			dot.Color, dot.Shape, dot.Radius = c, draw.CircleGlyph{}, 1.6
			g.Add(dot)
		}
		return err
	}
	if f.Custom.FillOpacity > 0 {
		around := slices.Clone(below)
		for i, p := range top {
			around[i].X = p.X
		}
		slices.Reverse(around)
		area, err := plotter.NewPolygon(append(slices.Clone(top), around...))
		if err != nil {
			return err
		}
		area.Color, area.Width = color.NRGBA{c.R, c.G, c.B, uint8(255 * f.Custom.FillOpacity / 100)}, 0
		g.Add(area)
	}
	curve, err := plotter.NewLine(top)
	if err == nil {
		curve.Color, curve.Width = c, 1.4
		if f.Custom.LineWidth != nil {
			curve.Width *= vg.Length(*f.Custom.LineWidth)
		}
		g.Add(curve)
	}
	return err
}

// minutes marks the minutes of a range.
func minutes(low, high float64) (ticks []plot.Tick) {
	for at := math.Ceil(low/60) * 60; at <= high; at += 60 {
		ticks = append(ticks, plot.Tick{Value: at, Label: time.Unix(int64(at), 0).Format("15:04")})
	}
	return ticks
}

// ticks are round values, at most about so many.
func (f field) ticks(low, high, most float64) (ticks []plot.Tick) {
	every := math.Pow(10, math.Floor(math.Log10((high-low)/most)))
	for _, times := range []float64{2, 2.5, 2} { // 2, 5, 10
		if (high-low)/every > most {
			every *= times
		}
	}
	for i := math.Ceil(low / every); i*every <= high; i++ {
		ticks = append(ticks, plot.Tick{Value: i * every, Label: f.show(i * every).Text})
	}
	return ticks
}

// legend names the series at the foot of the panel, and returns what is above.
func (p panel) legend(c draw.Canvas) draw.Canvas {
	const mark, gap = 14, 16
	s := style(11.5, grey)
	at := make([]vg.Point, len(p.curves))
	x, down := c.Min.X, vg.Length(0)
	for i, curve := range p.curves {
		width := mark + 5 + s.Width(curve.name)
		if x > c.Min.X && x+width > c.Max.X {
			x, down = c.Min.X, down+line
		}
		at[i] = vg.Point{X: x, Y: -down}
		x += width + gap
	}
	top := c.Min.Y + down + line
	for i, curve := range p.curves {
		x, y := at[i].X, top+at[i].Y
		c.StrokeLine2(draw.LineStyle{Color: colour(i), Width: 3}, x, y-7, x+mark, y-7)
		c.FillText(s, vg.Point{X: x + mark + 5, Y: y}, curve.name)
	}
	return draw.Crop(c, 0, 0, top-c.Min.Y+4, 0)
}
