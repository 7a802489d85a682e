package browsers_test

import (
	"encoding/base64"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// tab is a page of a browser, in a tab of its own.
type tab struct {
	t      *testing.T
	engine *engine
	window string
}

// open opens a window with an address, and waits until its page is ready. A tab of a window with
// others would be hidden, and its timers slow.
func (e *engine) open(t *testing.T, url string) *tab {
	t.Helper()
	e.mu.Lock()
	var opened struct{ Handle string }
	err := e.client.command("WebDriver:NewWindow", map[string]any{"type": "window"}, &opened)
	e.mu.Unlock()
	require.NoError(t, err)
	p := &tab{t: t, engine: e, window: opened.Handle}
	t.Cleanup(p.close)
	p.navigate(url)
	return p
}

// do runs a command in the tab.
func (p *tab) do(name string, params map[string]any, result any) error {
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	return p.command(name, params, result)
}

// command is do for who has locked the browser.
func (p *tab) command(name string, params map[string]any, result any) error {
	e := p.engine
	if e.current != p.window {
		if err := e.client.command("WebDriver:SwitchToWindow", map[string]any{"handle": p.window}, nil); err != nil {
			return err
		}
		e.current = p.window
	}
	return e.client.command(name, params, result)
}

func (p *tab) navigate(url string) {
	p.t.Helper()
	require.NoError(p.t, p.do("WebDriver:Navigate", map[string]any{"url": url}, nil))
	p.until("window.loaded === true")
}

// back goes back in the history of the tab.
func (p *tab) back() {
	p.t.Helper()
	require.NoError(p.t, p.do("WebDriver:Back", nil, nil))
}

func (p *tab) close() {
	if p.window == "" {
		return
	}
	e := p.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	_ = p.command("WebDriver:CloseWindow", nil, nil)
	// A tab can only be opened from one that is there.
	_ = e.client.command("WebDriver:SwitchToWindow", map[string]any{"handle": e.home}, nil)
	e.current, p.window = e.home, ""
}

func (p *tab) run(script string) {
	p.t.Helper()
	require.NoError(p.t, p.do("WebDriver:ExecuteScript", map[string]any{"script": script + "\n;", "args": []any{}}, nil), script)
}

func evaluate[T any](p *tab, expression string) T {
	p.t.Helper()
	var v T
	require.NoError(p.t, p.do("WebDriver:ExecuteScript", map[string]any{"script": "return (" + expression + "\n);", "args": []any{}}, &v), expression)
	return v
}

// is reports whether a condition is true now. It is false while the page changes.
func (p *tab) is(condition string) bool {
	var v bool
	err := p.do("WebDriver:ExecuteScript", map[string]any{"script": "return !!(" + condition + "\n);", "args": []any{}}, &v)
	return err == nil && v
}

// patience is how long a test waits for what must happen: engines that share a busy machine
// with other tests are slow.
const patience = time.Minute

// until waits until a condition is true.
func (p *tab) until(condition string) {
	p.t.Helper()
	p.within(patience, condition)
}

func (p *tab) within(limit time.Duration, condition string) {
	p.t.Helper()
	every := 15 * time.Millisecond
	for began := time.Now(); !p.is(condition); pause(every) {
		every = min(every*5/4, 200*time.Millisecond) // each look takes time from the other tests in the browser
		if time.Since(began) > limit {
			var seen string
			_ = p.do("WebDriver:ExecuteScript", map[string]any{"script": "return JSON.stringify({ n: window.got?.length, got: window.got?.slice(-5), states: window.states, transport: window.stream?.transport, errors: window.errors })", "args": []any{}}, &seen)
			require.FailNow(p.t, "not within "+limit.String(), "%s: %s", condition, seen)
		}
	}
}

// screenshots is a folder for pictures of pages, for people.
var screenshots = flag.String("screenshots", "", "a folder for pictures of the pages of TestEachTransportAlone")

// screenshot writes a picture of the tab.
func (p *tab) screenshot(name string) {
	p.t.Helper()
	if *screenshots == "" {
		return
	}
	var picture string
	require.NoError(p.t, p.do("WebDriver:TakeScreenshot", nil, &picture))
	b, err := base64.StdEncoding.DecodeString(picture)
	require.NoError(p.t, err)
	require.NoError(p.t, os.WriteFile(filepath.Join(*screenshots, fmt.Sprintf("%s-%s.png", p.engine.name, name)), b, 0o600))
}

// pause waits between two looks at a real browser, which no fake clock reaches.
func pause(d time.Duration) { <-time.After(d) }
