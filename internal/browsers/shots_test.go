//go:build picture

package browsers_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// dark are the engines whose drivers cannot change the scheme of a page: they are started with it.
var dark = []*engine{
	{name: "firefox", program: "firefox-esr", start: startFirefox, dark: true},
	{name: "webkit", program: "WebKitWebDriver", start: startWebKit, dark: true},
}

// TestShots takes pictures of each page for people to look at: before its button is pressed, while
// it plays and when it has ended; in each engine, wide and narrow, light and dark.
//
//	go test -tags picture -run TestShots -screenshots /tmp/shots .
//
// With SHOTS_URL it takes those of one more page, of a server that runs.
func TestShots(t *testing.T) {
	if *screenshots == "" {
		t.Skip("no -screenshots")
	}
	all := slices.Concat(engines, dark)
	t.Cleanup(func() {
		for _, e := range dark {
			e.stop()
		}
	})
	for _, x := range examples {
		t.Run(x.folder, func(t *testing.T) {
			t.Parallel()
			base := ""
			if !x.alone {
				base = x.run(t)
			}
			for _, e := range all {
				t.Run(e.name+"-"+e.scheme(), func(t *testing.T) {
					t.Parallel()
					base := base
					if x.alone {
						base = x.run(t)
					}
					p := e.started(t).visit(t, x.url(base, e.name+"-"+e.scheme()))
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
	if url := os.Getenv("SHOTS_URL"); url != "" {
		for _, e := range all {
			t.Run("url/"+e.name+"-"+e.scheme(), func(t *testing.T) {
				p := e.started(t).visit(t, url)
				pause(4 * time.Second)
				p.shots("url")
			})
		}
	}
}

func (e *engine) scheme() string {
	if e.dark {
		return "dark"
	}
	return "light"
}

// shots takes a picture of each width, and of each scheme where the driver can set it.
func (p *tab) shots(name string) {
	p.t.Helper()
	for _, width := range []int{1280, 400} {
		if p.engine.name != "chromium" {
			p.fits(name, p.resize(width))
			p.shot(fmt.Sprintf("%s-%d-%s", name, width, p.engine.scheme()))
			continue
		}
		for _, scheme := range []string{"light", "dark"} {
			p.cdp("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false})
			p.cdp("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]any{"name": "prefers-color-scheme", "value": scheme}}})
			pause(400 * time.Millisecond)
			p.fits(name, width)
			height := evaluate[int](p, "document.documentElement.scrollHeight")
			p.cdp("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": max(900, min(height, 2600)), "deviceScaleFactor": 1, "mobile": false})
			p.shot(fmt.Sprintf("%s-%d-%s", name, width, scheme))
		}
	}
}

// resize makes the page so wide, and returns how wide it is: a window of WebKit is at least as wide
// as its buttons.
func (p *tab) resize(width int) int {
	p.t.Helper()
	outer, got := width, 0
	for range 3 {
		require.NoError(p.t, p.do("WebDriver:SetWindowRect", map[string]any{"width": outer, "height": 900}, nil))
		pause(400 * time.Millisecond)
		if got = evaluate[int](p, "innerWidth"); got == width {
			break
		}
		outer += width - got
	}
	return got
}

// fits checks that nobody has to scroll sideways.
func (p *tab) fits(name string, width int) {
	p.t.Helper()
	if wide := evaluate[int](p, "document.documentElement.scrollWidth"); wide > width {
		p.t.Errorf("%s is %d wide at %d", name, wide, width)
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
