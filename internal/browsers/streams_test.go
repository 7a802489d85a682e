package browsers_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/sse"
)

// open opens the site's page in a tab.
func (s *site) open(t *testing.T, e *engine) *tab {
	t.Helper()
	return e.open(t, s.url("/page"))
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
func TestFailoverLosesNothing(t *testing.T) { inEach(t, failoverLosesNothing) }

func failoverLosesNothing(t *testing.T, e *engine) {
	s := newSite(t)
	p := s.open(t, e)
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

// The browser's own EventSource and WebSocket, and each transport of fanfare.js alone, get
// every message.
func TestEachTransportAlone(t *testing.T) { inEach(t, eachTransportAlone) }

func eachTransportAlone(t *testing.T, e *engine) {
	s := newSite(t)
	var pages []*tab
	for _, f := range []string{"eventsource()", "websocket()", "fanfare()", "fanfare({ headers: { 'X-Token': 'x' }, transports: ['sse'] })", "fanfare({ transports: ['poll'] })"} {
		p := s.open(t, e)
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
		p.run("document.body.textContent = `${states.join(' ')}: ${got.length} messages, the last is ${got.at(-1)}`")
		p.screenshot(strconv.Itoa(slices.Index(pages, p)))
		require.Equal(t, numbers(0, messages), evaluate[[]string](p, "got"))
	}
}

// A page whose own address has a name and a password, as behind basic authentication, gets its
// messages over what is fetched, too: fetch refuses an address that has them.
func TestAddressWithAPassword(t *testing.T) { inEach(t, addressWithAPassword) }

func addressWithAPassword(t *testing.T, e *engine) {
	s := newSite(t)
	for _, f := range []string{"fanfare()", "fanfare({ headers: { 'X-Token': 'x' }, transports: ['sse'] })", "fanfare({ transports: ['poll'] })"} {
		p := e.open(t, strings.Replace(s.url("/page"), "://", "://ann:secret@", 1))
		p.run(f)
		p.until("states.some((state) => ['ws', 'sse', 'poll'].includes(state))")
		s.publish("hello")
		p.until("got.at(-1) === 'hello'")
	}
}

// The browser's EventSource and sse.Reader read what sse.Writer has written.
func TestBrowserAndReaderAgree(t *testing.T) { inEach(t, browserAndReaderAgree) }

func browserAndReaderAgree(t *testing.T, e *engine) {
	s := newSite(t)
	p := s.open(t, e)
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
	shown := slices.Clone(want)
	if e.name == "firefox" {
		// Its EventSource leaves out U+0000 and keeps the last ID over a block that has only an
		// id, where WHATWG HTML 9.2.6 has both otherwise. So a page resumes after the last message.
		for i := range shown {
			shown[i] = strings.ReplaceAll(shown[i], "\x00", "")
		}
		shown[len(shown)-1] = strings.Replace(shown[len(shown)-1], "|8|", "|7|", 1)
	}
	require.Equal(t, shown, evaluate[[]string](p, "got"))

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
