package chromium_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/sse"
)

// browse starts a browser, or skips the test. Debian's package is chromium.
func browse(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is not installed")
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	do(t, ctx, chromedp.Title()) // the browser lives as long as the context of its first action
	return ctx
}

func do[V any](t *testing.T, ctx context.Context, a chromedp.Action[V]) V {
	t.Helper()
	v, err := chromedp.Run(ctx, a)
	require.NoError(t, err)
	return v
}

// tab is a page of the browser.
type tab struct {
	t     *testing.T
	ctx   context.Context
	close func()
}

func (s *site) open(browser context.Context) *tab {
	s.t.Helper()
	ctx, cancel := chromedp.NewContext(browser)
	s.t.Cleanup(cancel)
	p := &tab{s.t, ctx, cancel}
	do(s.t, ctx, chromedp.Navigate(s.url("/page")))
	p.until("window.loaded === true")
	return p
}

func (p *tab) run(script string) {
	p.t.Helper()
	do(p.t, p.ctx, chromedp.Evaluate[chromedp.Void](script))
}

func evaluate[T any](p *tab, script string) T {
	p.t.Helper()
	return do(p.t, p.ctx, chromedp.Evaluate[T](script))
}

// until waits until a JavaScript condition is true.
func (p *tab) until(condition string) {
	p.t.Helper()
	_, err := chromedp.Run(p.ctx, chromedp.Poll[chromedp.Void](condition, chromedp.WithPollingTimeout(20*time.Second), chromedp.WithPollingInterval(20*time.Millisecond)))
	require.NoError(p.t, err, "%s: got %d, states %v", condition, evaluate[int](p, "got.length"), evaluate[[]string](p, "states"))
}

// numbers returns the numbers from from up to and without to, as texts.
func numbers(from, to int) (texts []string) {
	for i := from; i < to; i++ {
		texts = append(texts, strconv.Itoa(i))
	}
	return texts
}

// While transports stop working, work again, and the server is killed, fanfare.js changes
// transports and gets each message once and in order.
func TestFailoverLosesNothing(t *testing.T) {
	s := newSite(t)
	p := s.open(browse(t))
	p.run("fanfare()")
	p.until("stream.transport === 'ws'")

	const messages = 2000
	n := 0
	flow := func(until int) {
		for ; n < until; n++ {
			s.publish(strconv.Itoa(n))
			if n%8 == 0 {
				evaluate[int](p, "got.length") // takes a moment
			}
		}
	}
	// become publishes until the page uses another transport.
	become := func(transport string) {
		t.Helper()
		for began := time.Now(); evaluate[string](p, "stream.transport ?? ''") != transport; {
			require.Less(t, time.Since(began), 20*time.Second, "waiting for %s, states %v", transport, evaluate[[]string](p, "states"))
			flow(min(n+1, messages-200))
		}
	}
	cut := func() {
		s.kill()
		s.start()
	}
	flow(200)
	s.killsWebSockets.Store(true)
	cut()
	become("sse")
	flow(600)
	s.holdsResponses.Store(true)
	cut()
	become("poll")
	flow(1000)
	s.holdsResponses.Store(false)
	s.killsWebSockets.Store(false)
	become("ws")
	flow(1400)
	s.kill()
	p.until("stream.state === 'waiting'")
	s.start()
	flow(messages)
	p.until(fmt.Sprintf("got.at(-1) === '%d'", messages-1))
	require.Equal(t, numbers(0, messages), evaluate[[]string](p, "got"), "messages")
	t.Logf("states: %v", evaluate[[]string](p, "states"))

	// A server that has lost its log sends a gap.
	s.kill()
	s.journal.Recreate()
	s.start()
	p.until("got.at(-1) === 'gap' && stream.transport === 'ws'")
	// send works as soon as a WebSocket is open.
	p.run("(async () => { while (await stream.send('hello').catch(() => true)) await new Promise((resolve) => setTimeout(resolve, 20)); })()")
	p.until("got.at(-1) === 'hello'")
	require.Equal(t, []string{"gap", "hello"}, evaluate[[]string](p, "got.slice(2000)"))
}

// Eight tabs share one connection. If the tab that has it is closed, another takes over and
// nothing is lost.
func TestTabsShareOneConnection(t *testing.T) {
	s := newSite(t)
	browser := browse(t)
	var tabs []*tab
	for range 8 {
		p := s.open(browser)
		p.run("fanfare({ shared: true })")
		p.until("stream.readyState === 1")
		tabs = append(tabs, p)
	}
	require.EqualValues(t, 1, s.streams.Load(), "streams")
	leader := slices.IndexFunc(tabs, func(p *tab) bool { return evaluate[string](p, "stream.transport") == "ws" })
	for i := range 100 {
		s.publish(strconv.Itoa(i))
	}
	for _, p := range tabs {
		p.until("got.length === 100")
	}
	tabs[leader].close()
	left := slices.Delete(slices.Clone(tabs), leader, leader+1)
	for i := 100; i < 300; i++ {
		s.publish(strconv.Itoa(i))
		evaluate[int](left[0], "got.length") // takes a moment
	}
	for _, p := range left {
		p.until("got.length === 300")
		require.Equal(t, numbers(0, 300), evaluate[[]string](p, "got"))
	}
	require.EqualValues(t, 1, s.streams.Load(), "streams")
	left[3].run("stream.send('from any tab')")
	for _, p := range left {
		p.until("got.at(-1) === 'from any tab'")
	}
}

// The browser's own EventSource and WebSocket, and each transport of fanfare.js alone, get
// every message.
func TestEachTransportAlone(t *testing.T) {
	s := newSite(t)
	browser := browse(t)
	var pages []*tab
	for _, f := range []string{"eventsource()", "websocket()", "fanfare()", "fanfare({ headers: { 'X-Token': 'x' }, transports: ['sse'] })", "fanfare({ transports: ['poll'] })"} {
		p := s.open(browser)
		p.run(f)
		p.until("states.some((state) => ['ws', 'sse', 'poll'].includes(state))")
		pages = append(pages, p)
	}
	const messages = 200
	for i := range messages {
		s.publish(strconv.Itoa(i))
		if i%20 == 0 {
			evaluate[int](pages[0], "got.length") // takes a moment
		}
	}
	for _, p := range pages {
		p.until(fmt.Sprintf("got.length === %d", messages))
		require.Equal(t, numbers(0, messages), evaluate[[]string](p, "got"))
	}
}

// The browser's EventSource and sse.Reader read what sse.Writer has written.
func TestBrowserAndReaderAgree(t *testing.T) {
	s := newSite(t)
	p := s.open(browse(t))
	var want []string
	types := map[string]bool{}
	last := ""
	for _, e := range odd {
		if e.ID != "" {
			last = e.ID
		}
		if e.Data == nil {
			continue // fires no event
		}
		typ := e.Type
		if typ == "" {
			typ = "message"
		}
		types[typ] = true
		data := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(e.Data))
		want = append(want, strings.Join([]string{typ, last, data}, "|"))
	}
	names, err := json.Marshal(slices.Collect(maps.Keys(types)))
	require.NoError(t, err)
	p.run("odd(" + string(names) + ")")
	p.until(fmt.Sprintf("got.length === %d", len(want)))
	require.Equal(t, want, evaluate[[]string](p, "got"))

	response, err := http.Get(s.url("/odd"))
	require.NoError(t, err)
	defer response.Body.Close()
	var read []string
	for e, err := range sse.NewReader(response.Body).All() {
		require.NoError(t, err)
		if e.Type == "" {
			e.Type = "message"
		}
		if read = append(read, strings.Join([]string{e.Type, e.ID, string(e.Data)}, "|")); len(read) == len(want) {
			break
		}
	}
	require.Equal(t, want, read)
}
