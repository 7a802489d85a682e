//go:build picture

package browsers_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestShots takes pictures of each page for people to look at: before its button is pressed, while
// it plays and when it has ended; wide and narrow, in Chromium also light and dark.
//
//	go test -tags picture -run TestShots -screenshots /tmp/shots .
func TestShots(t *testing.T) {
	if *screenshots == "" {
		t.Skip("no -screenshots")
	}
	for _, x := range examples {
		t.Run(x.folder, func(t *testing.T) {
			t.Parallel()
			base := x.run(t)
			for i, e := range engines {
				t.Run(e.name, func(t *testing.T) {
					t.Parallel()
					if x.alone && i > 0 {
						return
					}
					p := e.started(t).visit(t, x.url(base, e.name))
					p.until(`document.getElementById("play")`)
					pause(2 * time.Second)
					p.shots(x.folder + "-1begin")
					if x.before != "" {
						p.run(x.before)
					}
					p.run(`document.getElementById("play").click()`)
					pause(3500 * time.Millisecond)
					p.shots(x.folder + "-2playing")
					p.within(2*patience, x.played)
					pause(500 * time.Millisecond)
					p.shots(x.folder + "-3end")
				})
			}
		})
	}
	if url := os.Getenv("SHOTS_URL"); url != "" { // one more page, of a server that runs
		for _, e := range engines {
			t.Run(e.name, func(t *testing.T) {
				p := e.started(t).visit(t, url)
				pause(4 * time.Second)
				p.shots("url")
			})
		}
	}
}

// shots takes a picture of each width, and of each scheme where the driver can set it.
func (p *tab) shots(name string) {
	p.t.Helper()
	for _, width := range []int{1280, 400} {
		if p.engine.name != "chromium" {
			_ = p.do("WebDriver:SetWindowRect", map[string]any{"width": width, "height": 900}, nil)
			pause(300 * time.Millisecond)
			p.shot(fmt.Sprintf("%s-%d", name, width))
			continue
		}
		for _, scheme := range []string{"light", "dark"} {
			p.cdp("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false})
			p.cdp("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]any{"name": "prefers-color-scheme", "value": scheme}}})
			pause(400 * time.Millisecond)
			height := evaluate[int](p, "document.documentElement.scrollHeight")
			if wide := evaluate[int](p, "document.documentElement.scrollWidth"); wide > width {
				p.t.Errorf("%s is %d wide at %d", name, wide, width)
			}
			p.cdp("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": max(900, min(height, 2600)), "deviceScaleFactor": 1, "mobile": false})
			p.shot(fmt.Sprintf("%s-%d-%s", name, width, scheme))
		}
	}
}

func (p *tab) cdp(command string, params map[string]any) {
	p.t.Helper()
	require.NoError(p.t, p.do("WebDriver:/goog/cdp/execute", map[string]any{"cmd": command, "params": params}, nil))
}

func (p *tab) shot(name string) {
	p.t.Helper()
	var picture string
	require.NoError(p.t, p.do("WebDriver:TakeScreenshot", nil, &picture))
	b, err := base64.StdEncoding.DecodeString(picture)
	require.NoError(p.t, err)
	require.NoError(p.t, os.WriteFile(filepath.Join(*screenshots, name+"-"+p.engine.name+".png"), b, 0o600))
}
