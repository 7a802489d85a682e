//go:build picture

package browsers_test

import (
	"bytes"
	"encoding/base64"
	"flag"
	"image"
	"image/color"
	"image/draw"
	"image/gif"
	"image/png"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var picture = flag.String("picture", "../../docs/chat.gif", "where TestPicture writes the animated picture of the README")

// TestPicture plays the chat and takes the picture of the README from the page as it is:
//
//	go test -tags picture -run TestPicture .
func TestPicture(t *testing.T) {
	e := engines[0].started(t)
	chat := examples[0]
	p := e.visit(t, chat.url(chat.run(t), "lobby"))
	require.NoError(t, p.do("WebDriver:/goog/cdp/execute", map[string]any{
		"cmd": "Emulation.setDeviceMetricsOverride", "params": map[string]any{"width": 1100, "height": 720, "deviceScaleFactor": 1, "mobile": false},
	}, nil))
	p.until(`document.getElementById("verdict") && !/connect/.test(document.getElementById("verdict").textContent)`)
	p.run(`document.getElementById("play").click()`)

	const every = 400 * time.Millisecond
	var film film
	for limit := time.Now().Add(patience); !p.is(chat.played); pause(every) {
		require.True(t, time.Now().Before(limit), "the chat has not played")
		film.add(t, p, every)
	}
	film.add(t, p, 5*time.Second)
	var b bytes.Buffer
	require.NoError(t, gif.EncodeAll(&b, &film.GIF))
	require.NoError(t, os.WriteFile(*picture, b.Bytes(), 0o644))
}

// film is an animated picture of a page.
type film struct {
	gif.GIF
	last image.Image
}

// add adds the page as it is, to be shown for so long. What has not changed since the last
// picture is left out.
func (f *film) add(t *testing.T, p *tab, d time.Duration) {
	var text string
	require.NoError(t, p.do("WebDriver:TakeScreenshot", nil, &text))
	b, err := base64.StdEncoding.DecodeString(text)
	require.NoError(t, err)
	shot, err := png.Decode(bytes.NewReader(b))
	require.NoError(t, err)
	changed := f.changed(shot)
	if changed.Empty() {
		f.Delay[len(f.Delay)-1] += int(d / (10 * time.Millisecond))
		return
	}
	frame := image.NewPaletted(changed, paletteOf(shot))
	draw.Draw(frame, changed, shot, changed.Min, draw.Src)
	f.Image, f.last = append(f.Image, frame), shot
	f.Delay, f.Disposal = append(f.Delay, int(d/(10*time.Millisecond))), append(f.Disposal, gif.DisposalNone)
}

// changed returns the part of a picture that is not as in the last one.
func (f *film) changed(shot image.Image) (part image.Rectangle) {
	if f.last == nil || f.last.Bounds() != shot.Bounds() {
		return shot.Bounds()
	}
	bounds := shot.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			if shot.At(x, y) != f.last.At(x, y) {
				part = part.Union(image.Rect(x, y, x+1, y+1))
			}
		}
	}
	return part
}

// paletteOf returns the colours that a page uses most: its surfaces, its text, and their edges.
func paletteOf(shot image.Image) color.Palette {
	counts := make(map[color.RGBA]int)
	bounds := shot.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			counts[color.RGBAModel.Convert(shot.At(x, y)).(color.RGBA)]++
		}
	}
	colours := slices.Collect(maps.Keys(counts))
	slices.SortFunc(colours, func(a, b color.RGBA) int { return counts[b] - counts[a] })
	palette := make(color.Palette, 0, 256)
	for _, c := range colours[:min(len(colours), 256)] {
		palette = append(palette, c)
	}
	return palette
}
