package main

import (
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
)

// The chart of the comparison with other queues. These are the size of a panel and the frame of its plot, in pixels.
const (
	panelWidth, panelHeight  = 720, 420
	left, right, top, bottom = 76, 600, 56, 360
)

var chartColors = map[string]string{"ledger": "#0b6e4f", "bare": "#6c757d", "goqite": "#d1603d", "River": "#3d6fb4"}

// panel is one engine's part of the chart.
type panel struct {
	engine string
	points map[string][]float64 // steps per second by number of callers, for each side
}

// writeChart writes an SVG of steps per second by number of callers. The engines are side by side and have the same
// logarithmic scale.
func writeChart(path string, callers []int, panels []panel) error {
	low, high := math.Inf(1), 0.0
	for _, p := range panels {
		for _, speeds := range p.points {
			low, high = min(low, slices.Min(speeds)), max(high, slices.Max(speeds))
		}
	}
	low, high = math.Floor(math.Log10(low)), math.Ceil(math.Log10(high))

	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif" font-size="13">`+"\n",
		panelWidth*len(panels), panelHeight)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", panelWidth*len(panels), panelHeight)
	for i, p := range panels {
		fmt.Fprintf(&b, `<g transform="translate(%d 0)">`+"\n", panelWidth*i)
		p.draw(&b, callers, low, high)
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

// draw draws a panel whose scale begins at 10^low and ends at 10^high.
func (p panel) draw(b *strings.Builder, callers []int, low, high float64) {
	x := func(i int) float64 { return left + float64(i)*(right-left)/float64(max(len(callers)-1, 1)) }
	y := func(v float64) float64 { return bottom - (math.Log10(v)-low)/(high-low)*(bottom-top) }

	fmt.Fprintf(b, `<text x="%d" y="24" font-size="16" font-weight="bold">%s, every step durable: steps per second by number of callers</text>`+"\n", 16, p.engine)
	fmt.Fprintf(b, `<text x="%d" y="42" fill="#555">a job is three steps: insert, take, complete; logarithmic scale</text>`+"\n", 16)
	for e := low; e <= high; e++ {
		for m := 1.0; m < 10 && (e < high || m == 1); m++ {
			v := m * math.Pow(10, e)
			color := "#eee"
			if m == 1 {
				color = "#bbb"
				fmt.Fprintf(b, `<text x="%d" y="%.1f" text-anchor="end" fill="#555">%s</text>`+"\n", left-8, y(v)+4, thousands(v))
			}
			fmt.Fprintf(b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="%s"/>`+"\n", left, right, y(v), y(v), color)
		}
	}
	for i, n := range callers {
		fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle" fill="#555">%d</text>`+"\n", x(i), bottom+20, n)
	}
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="middle" fill="#555">callers at once</text>`+"\n", (left+right)/2, bottom+42)
	labels := slices.SortedFunc(maps.Keys(p.points), func(a, b string) int { // from top to bottom, by the last point
		return int(math.Copysign(1, p.points[b][len(callers)-1]-p.points[a][len(callers)-1]))
	})
	above := math.Inf(-1)
	for _, name := range labels {
		speeds, color := p.points[name], chartColors[name]
		var d strings.Builder
		for i, v := range speeds {
			fmt.Fprintf(&d, "%.1f,%.1f ", x(i), y(v))
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="4" fill="%s"/>`+"\n", x(i), y(v), color)
		}
		fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2.5"/>`+"\n", strings.TrimSpace(d.String()), color)
		last := speeds[len(speeds)-1]
		at := max(y(last)+4, above+17) // so that labels don't overlap
		above = at
		fmt.Fprintf(b, `<text x="%d" y="%.1f" fill="%s">%s %s</text>`+"\n", right+10, at, color, name, thousands(math.Round(last)))
	}
}

// thousands formats a number like 12,345.
func thousands(v float64) string {
	text := fmt.Sprintf("%.0f", v)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
