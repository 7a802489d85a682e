package main

import (
	"fmt"
	"html"
	"strings"
)

// draw returns an SVG chart of the burst rates.
func draw(results [][]figures) string {
	const left, bar, gap, width = 230, 20, 8, 520
	var b strings.Builder
	most := 0.0
	rows := 0
	for _, all := range results {
		if len(all) > 0 {
			m, _, _ := median(all, func(f figures) float64 { return f.burst })
			most = max(most, m)
			rows++
		}
	}
	height := 40 + rows*(bar+gap) + len(transports)*30
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="system-ui, sans-serif" font-size="13">`+"\n", left+width+90, height)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="#fff"/><text x="10" y="22" font-size="15" font-weight="600" fill="#222">A burst to 1,000 subscribers: million deliveries a second</text>`+"\n")
	y := 40
	for _, transport := range transports {
		fmt.Fprintf(&b, `<text x="10" y="%d" font-weight="600" fill="#444">%s</text>`+"\n", y+18, transport)
		y += 28
		for i, p := range peers {
			if len(results[i]) == 0 || p.transport() != transport {
				continue
			}
			m, _, _ := median(results[i], func(f figures) float64 { return f.burst })
			colour := "#b6bccb"
			if strings.HasPrefix(p.name, "fanfare") {
				colour = "#4f52c8"
			}
			fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end" fill="#222">%s</text><rect x="%d" y="%d" width="%.1f" height="%d" rx="3" fill="%s"/><text x="%.1f" y="%d" fill="#222">%.2f</text>`+"\n",
				left-8, y+15, html.EscapeString(p.name), left, y, max(1, m/most*width), bar, colour, left+6+max(1, m/most*width), y+15, m/1e6)
			y += bar + gap
		}
	}
	b.WriteString("</svg>\n")
	return b.String()
}
