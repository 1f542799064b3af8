// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// curve is a line of a plot with its name.
type curve struct {
	name   string
	points plotter.XYs
}

// Colours that people with any kind of sight can tell apart (Okabe and Ito).
var colours = []color.Color{
	color.RGBA{0x00, 0x72, 0xb2, 0xff}, color.RGBA{0xd5, 0x5e, 0x00, 0xff}, color.RGBA{0x00, 0x9e, 0x73, 0xff},
	color.RGBA{0xcc, 0x79, 0xa7, 0xff}, color.RGBA{0x56, 0xb4, 0xe9, 0xff}, color.RGBA{0xe6, 0x9f, 0x00, 0xff},
}

// percent is the axis of a distribution.
const percent = "% not slower"

// plot draws what grows, and how long waking takes, into SVG files.
func (r *results) plot(dir string) error {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	growing := func(name, prefix, suffix, unit string) curve {
		c := curve{name: name}
		for _, p := range r.growth(prefix, suffix, unit) {
			if p.value > 0 { // less is noise, in a run with few peers
				c.points = append(c.points, plotter.XY{X: p.peers, Y: p.value})
			}
		}
		return c
	}
	spread := func(name, benchmark, prefix, unit string, scale float64) curve {
		c := curve{name: name}
		for _, q := range r.distribution(benchmark, prefix, unit) {
			c.points = append(c.points, plotter.XY{X: q.value * scale, Y: q.percent})
		}
		return c
	}
	return cmp.Or(
		draws(filepath.Join(dir, "bench-packet.svg"), "peers", "ns per packet", "x",
			growing("egress", "detect.Packet", "/egress", "net-ns/packet"),
			growing("ingress", "detect.Packet", "/ingress", "net-ns/packet"),
		),
		draws(filepath.Join(dir, "bench-memory.svg"), "dormant peers", "bytes per peer", "xy",
			growing("detector", "bench.Memory/detector", "", "B/peer"),
			growing("detector and manager", "bench.Memory/manager", "", "B/peer"),
			growing("usual design", "bench.Memory/listeners", "", "B/peer"),
		),
		draws(filepath.Join(dir, "bench-arm.svg"), "dormant peers", "ns to arm one", "xy",
			growing("lazybpf", "bench.Arm/detector", "", "ns/peer"),
			growing("usual design", "bench.Arm/listeners", "", "ns/peer"),
		),
		draws(filepath.Join(dir, "bench-wake.svg"), "µs", percent, "x",
			spread("a ring buffer that wakes a thread", "bench.Event", "thread-", "-µs", 1),
			spread("packet to manager", "bench.Event", "", "-µs", 1),
			spread("first round trip, plain", "e2e.FirstRoundTrip", "plain-", "-ms", 1000),
			spread("first round trip, pass", "e2e.FirstRoundTrip", "pass-", "-ms", 1000),
			spread("first round trip, hold", "e2e.FirstRoundTrip", "hold-", "-ms", 1000),
			spread("first round trip, usual design", "e2e.FirstRoundTrip", "reinjected-", "-ms", 1000),
		),
	)
}

// draws draws curves. The axes named are logarithmic, the others begin at 0.
func draws(path, x, y, logarithmic string, curves ...curve) error {
	p := plot.New()
	p.X.Label.Text, p.Y.Label.Text = x, y
	p.Legend.Top, p.Legend.Left, p.Legend.Padding = true, true, vg.Millimeter
	p.Add(plotter.NewGrid())
	p.Y.Min = 0
	for i, c := range curves {
		if len(c.points) == 0 {
			continue
		}
		line, dots, err := plotter.NewLinePoints(c.points)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		line.Color, line.Width = colours[i], vg.Points(1.5)
		dots.Color, dots.Shape = colours[i], draw.CircleGlyph{}
		p.Add(line, dots)
		p.Legend.Add(c.name, line, dots)
	}
	least := lowest(curves)
	if math.IsInf(least, 1) {
		return nil // none of it was measured
	}
	p.Y.Max *= 1 + 0.12*float64(len(curves)) // room for the legend
	if y == percent {
		p.Y.Tick.Marker = plot.ConstantTicks{
			{Value: 0, Label: "0"}, {Value: 25, Label: "25"}, {Value: 50, Label: "50"}, {Value: 75, Label: "75"}, {Value: 100, Label: "100"},
		}
	}
	for _, axis := range logarithmic {
		if axis == 'x' {
			p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, powers{}
			if p.X.Min == p.X.Max { // or it would begin at 0
				p.X.Min, p.X.Max = p.X.Min/10, p.X.Max*10
			}
		} else {
			p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, powers{}
			p.Y.Min, p.Y.Max = math.Pow(10, math.Floor(math.Log10(least))), p.Y.Max*10
		}
	}
	canvas := vgsvg.New(18*vg.Centimeter, 10*vg.Centimeter)
	const margin = vg.Centimeter
	p.Draw(draw.Crop(draw.New(canvas), margin/4, -margin, margin/4, -margin/2))
	var text bytes.Buffer
	if _, err := canvas.WriteTo(&text); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	// Not every machine has the font by which gonum measures.
	svg := bytes.ReplaceAll(text.Bytes(), []byte("Liberation Sans"), []byte("Liberation Sans,Arial,sans-serif"))
	return os.WriteFile(path, svg, 0o644)
}

func lowest(curves []curve) float64 {
	least := math.Inf(1)
	for _, c := range curves {
		for _, p := range c.points {
			least = min(least, p.Y)
		}
	}
	return least
}

// powers marks the powers of ten that figures here can have.
type powers struct{}

func (powers) Ticks(low, high float64) (ticks []plot.Tick) {
	for e := -3.0; e <= 9; e++ {
		if at := math.Pow(10, e); at >= low && at <= high {
			ticks = append(ticks, plot.Tick{Value: at, Label: fmt.Sprintf("%.12g", at)})
		}
	}
	return ticks
}
