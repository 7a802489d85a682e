package browsers_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// polyfills are event stream clients of other projects, by their names in the page. Where one
// differs from the browser's EventSource, its fields say why.
var polyfills = []polyfill{
	{
		name:  "event-source-polyfill",
		query: inQuery, lags: lagging,
	},
	{
		name:  "event-source-polyfill over XMLHttpRequest", // where there is no fetch
		query: inQuery, lags: lagging,
		refused: "it gives up on any status but 200, and without fetch's no-store the handler does not recognize an EventSource",
	},
	{
		name:      "fetch-event-source",
		positions: "it fires for blocks without data, which WHATWG HTML 9.2.6 drops",
		reads:     "an event has only the id of its own block, and loses empty lines at the beginning of its data",
		hasty:     "it ignores Retry-After and does not back off",
	},
}

const (
	inQuery = "on another origin a header would need permission"
	lagging = "only an event moves its last ID, where in WHATWG HTML 9.2.6 a block with only an id does too"
)

type polyfill struct {
	name string

	query     string // why it sends the last ID in the query, not as a header
	positions string // why it fires an event for a block that only moves the position
	lags      string // why it has no last ID before its first event
	refused   string // why it does not reconnect after it was refused
	hasty     string // why it reconnects at once after it was refused
	reads     string // why it reads events differently from the browser
}

// fired is an event as a page gets it.
type fired struct{ Type, ID, Data string }

// Polyfills get each message once over cuts and ends of their streams, and a gap after the
// server has lost its log.
func TestPolyfillsResume(t *testing.T) { inEach(t, polyfillsResume) }

func polyfillsResume(t *testing.T, e *engine) {
	needsPolyfills(t)
	for _, client := range polyfills {
		for _, way := range ways {
			t.Run(client.name+"/"+way, func(t *testing.T) {
				t.Parallel()
				s := newPolyfillSite(t)
				p := s.subscribe(t, e, client.name, "/"+way+"/x")
				n := 0
				flow := func(messages int, publish func(string)) {
					for range messages {
						publish(strconv.Itoa(n))
						n++
					}
				}
				elsewhere := func(text string) { s.elsewhere("a", text) }
				caughtUp := func() { p.until(fmt.Sprintf("got.at(-1) === '%d'", n-1)) }
				flow(50, s.publish)
				caughtUp()
				for _, stop := range []func(){s.kill, s.end} {
					flow(200, s.publish) // some of these are still in flight
					stop()
					flow(50, elsewhere)
					s.start()
					flow(50, s.publish)
					caughtUp()
				}
				require.Equal(t, numbers(0, n), evaluate[[]string](p, "got"), "messages")
				states := evaluate[[]string](p, "states")
				told := slices.DeleteFunc(slices.Clone(states), func(state string) bool { return state == "error" })
				want := []string{"open", "open", "closed", "open"}
				if e.name == "webkit" && slices.Index(told, "closed") == 1 {
					want = slices.Insert(want, 1, "closed") // WebKit takes a cut between two chunks for the end of a response
				}
				require.Equal(t, want, told, "only the end closes a stream, a cut does not: %v", states)

				// A server that has lost its log sends a gap, and the client resumes after that.
				s.kill()
				s.journal.Recreate()
				s.start()
				p.until("got.at(-1) === 'gap'")
				s.publish("hello")
				p.until("got.at(-1) === 'hello'")
				s.kill()
				s.elsewhere("a", "missed")
				s.start()
				p.until("got.at(-1) === 'missed'")
				require.Equal(t, []string{"gap", "hello", "missed"}, evaluate[[]string](p, fmt.Sprintf("got.slice(%d)", n)))
				gap := evaluate[fired](p, fmt.Sprintf("fired[%d]", n))
				require.Equal(t, fired{"gap", gap.ID, fmt.Sprintf(`{"gap":%q}`, gap.ID)}, gap)

				requests := s.askedBy("x")
				require.Len(t, requests, 5)
				for i, r := range requests {
					header, query := i > 0, false
					if client.query != "" {
						header, query = false, i > 0
					}
					require.Equal(t, header, r.header != "", "%d: Last-Event-ID %q", i, r.header)
					require.Equal(t, query, r.query.Get("lastEventId") != "", "%d: %v: %s", i, r.query, client.query)
				}
			})
		}
	}
}

// Heartbeats and positions alone keep a stream open, and fire no event in a client that
// follows the standard.
func TestPolyfillsStayOnQuietStreams(t *testing.T) { inEach(t, polyfillsStayOnQuietStreams) }

func polyfillsStayOnQuietStreams(t *testing.T, e *engine) {
	needsPolyfills(t)
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			s := newPolyfillSite(t)
			pages := make(map[string]*tab)
			for _, client := range polyfills {
				pages[client.name] = s.subscribe(t, e, client.name, "/"+way+"/"+url.PathEscape(client.name))
			}
			next := s.lines("/" + way + "/lines") // of another stream, which begins after theirs
			s.publish("before")
			next("data: before")
			for range 5 {
				for range 9 { // heartbeats, about a second
					next(":")
				}
				s.elsewhere("b", "moves the position")
				next("id: ")
			}
			s.publish("after")
			for _, client := range polyfills {
				p := pages[client.name]
				p.until("got.at(-1) === 'after'")
				require.Equal(t, []string{"before", "after"}, evaluate[[]string](p, "got"), client.name)
				fewest, most := 0, 0
				if client.positions != "" {
					fewest, most = 2, 6 // the first is the position at the beginning
				}
				blank := evaluate[int](p, "blank")
				require.True(t, fewest <= blank && blank <= most, "%s fires for %d blocks without data: %s", client.name, blank, client.positions)
				require.Len(t, s.askedBy(client.name), 1, "%s would reconnect without heartbeats", client.name)
			}
		})
	}
}

// lines opens a stream, and returns a function that reads up to a line with a prefix.
func (s *polyfillSite) lines(path string) (next func(prefix string)) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	s.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url(path), nil)
	require.NoError(s.t, err)
	response, err := http.DefaultClient.Do(r)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = response.Body.Close() })
	lines := bufio.NewScanner(response.Body)
	return func(prefix string) {
		s.t.Helper()
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), prefix) {
				return
			}
		}
		require.FailNow(s.t, "the stream has ended", "before %q: %v", prefix, lines.Err())
	}
}

// With padding=true a stream begins with 2 KB, for clients that see nothing of a response
// before.
func TestPolyfillsGetPadding(t *testing.T) { inEach(t, polyfillsGetPadding) }

func polyfillsGetPadding(t *testing.T, e *engine) {
	needsPolyfills(t)
	s := newPolyfillSite(t)
	s.lines("/attached/lines?padding=true")(":" + strings.Repeat(" ", 2048))
	for _, name := range []string{"event-source-polyfill", "event-source-polyfill over XMLHttpRequest"} {
		client := url.PathEscape(name)
		p := s.subscribe(t, e, name, "/attached/"+client+"?padding=true")
		s.publish("one")
		p.until("got.length === 1")
		s.kill()
		s.elsewhere("a", "two")
		s.start()
		p.until("got.length === 2")
		require.Equal(t, []string{"one", "two"}, evaluate[[]string](p, "got"), name)
		require.Equal(t, []asked{
			{query: url.Values{"padding": {"true"}}},
			{query: url.Values{"padding": {"true"}, "lastEventId": {evaluate[fired](p, "fired[0]").ID}}},
		}, s.askedBy(name))
	}
}

// A stream that is cut before its first message is resumed after the position that it began
// with, if the client keeps positions.
func TestPolyfillsResumeBeforeTheFirstMessage(t *testing.T) {
	inEach(t, polyfillsResumeBeforeTheFirstMessage)
}

func polyfillsResumeBeforeTheFirstMessage(t *testing.T, e *engine) {
	needsPolyfills(t)
	s := newPolyfillSite(t)
	pages := make(map[string]*tab)
	for _, client := range polyfills {
		p := s.subscribe(t, e, client.name, "/attached/"+url.PathEscape(client.name))
		pages[client.name] = p
		if client.positions != "" {
			p.until("blank === 1")
		}
		if client.lags != "" {
			// In an envelope the position is an event.
			name := client.name + ", enveloped"
			p := s.subscribe(t, e, client.name, "/attached/"+url.PathEscape(name)+"?envelope=1")
			p.until("got.length === 1")
			pages[name] = p
		}
	}
	s.kill()
	s.elsewhere("a", "missed")
	s.start()
	for name, p := range pages {
		p.until("states.filter((state) => state === 'open').length === 2")
		require.Len(t, s.askedBy(name), 2, name)
	}
	s.publish("after")
	for _, client := range polyfills {
		want := []string{"missed", "after"}
		if client.lags != "" {
			want = want[1:]
			p := pages[client.name+", enveloped"]
			p.until("got.at(-1)?.includes('after')")
			require.Equal(t, []string{"missed", "after"}, evaluate[[]string](p, "got.map(JSON.parse).filter((e) => 'topic' in e).map((e) => e.data)"))
		}
		p := pages[client.name]
		p.until("got.at(-1) === 'after'")
		require.Equal(t, want, evaluate[[]string](p, "got"), "%s: %s", client.name, client.lags)
	}
}

// Polyfills survive a server that refuses them for a while.
func TestPolyfillsRetryAfterARefusal(t *testing.T) { inEach(t, polyfillsRetryAfterARefusal) }

func polyfillsRetryAfterARefusal(t *testing.T, e *engine) {
	needsPolyfills(t)
	s := newPolyfillSite(t)
	clients := append(slices.Clone(polyfills), polyfill{name: "event-source-polyfill over XMLHttpRequest, no-cache"})
	pages := make(map[string]*tab)
	for _, client := range clients {
		pages[client.name] = s.subscribe(t, e, client.name, "/attached/"+url.PathEscape(client.name))
	}
	s.publish("before")
	for _, p := range pages {
		p.until("got.length === 1")
	}
	s.refuses.Store(true)
	s.kill()
	s.start()
	for _, client := range clients {
		times := 2
		if client.hasty != "" {
			times = 6
		}
		s.eventually(func() bool { return len(s.askedBy(client.name)) >= times }, "%s has not reconnected %d times", client.name, times-1)
	}
	s.publish("missed")
	s.refuses.Store(false)
	for _, client := range clients {
		p := pages[client.name]
		if client.refused != "" {
			p.until("states.at(-1) === 'gave up'")
			require.Len(t, s.askedBy(client.name), 2, client.refused)
			continue
		}
		p.until("got.at(-1) === 'missed'")
		require.Equal(t, []string{"before", "missed"}, evaluate[[]string](p, "got"), client.name)
	}
}

func (s *polyfillSite) eventually(condition func() bool, message string, args ...any) {
	s.t.Helper()
	require.Eventuallyf(s.t, condition, 20*time.Second, 10*time.Millisecond, message, args...)
}

// fetch-event-source closes its stream while its page is hidden, and then resumes.
func TestPolyfillsResumeAfterThePageWasHidden(t *testing.T) {
	inEach(t, polyfillsResumeAfterThePageWasHidden)
}

func polyfillsResumeAfterThePageWasHidden(t *testing.T, e *engine) {
	needsPolyfills(t)
	s := newPolyfillSite(t)
	p := s.subscribe(t, e, "fetch-event-source", "/attached/x")
	s.publish("before")
	p.until("got.length === 1")
	p.run("hide(true)")
	s.eventually(func() bool { return s.hub.Stats().Subscriptions == 0 }, "the stream is still open")
	s.publish("missed")
	p.run("hide(false)")
	p.until("got.length === 2")
	require.Equal(t, []string{"before", "missed"}, evaluate[[]string](p, "got"))
}

// fetch-event-source reconnects after the end of a stream only if its user's onclose throws.
func TestPolyfillsAfterTheEndOfAStream(t *testing.T) { inEach(t, polyfillsAfterTheEndOfAStream) }

func polyfillsAfterTheEndOfAStream(t *testing.T, e *engine) {
	needsPolyfills(t)
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			s := newPolyfillSite(t)
			plain := s.subscribe(t, e, "fetch-event-source, at its simplest", "/"+way+"/plain")
			throws := s.subscribe(t, e, "fetch-event-source", "/"+way+"/throws")
			s.publish("one")
			plain.until("got.length === 1")
			s.end()
			plain.until("states.at(-1) === 'done'")
			s.start()
			s.publish("two")
			throws.until("got.length === 2")
			require.Equal(t, []string{"one", "two"}, evaluate[[]string](throws, "got"))
			require.Equal(t, []string{"one"}, evaluate[[]string](plain, "got"))
			require.Len(t, s.askedBy("plain"), 1, "it stops after the end of a response, where WHATWG HTML 9.2.3 has a client reconnect")
		})
	}
}

// Polyfills read events that are easy to encode wrongly as the browser's EventSource does.
func TestPolyfillsReadLikeTheBrowser(t *testing.T) { inEach(t, polyfillsReadLikeTheBrowser) }

func polyfillsReadLikeTheBrowser(t *testing.T, e *engine) {
	needsPolyfills(t)
	s := newPolyfillSite(t)
	var types []string
	var ids []string // of the blocks that fire
	for _, e := range odd {
		if e.Type != "" {
			types = append(types, e.Type)
		}
		if e.Data != nil {
			ids = append(ids, e.ID)
		}
	}
	names, err := json.Marshal(types)
	require.NoError(t, err)
	read := func(client string) []fired {
		p := s.openPolyfills(t, e)
		p.run(fmt.Sprintf("clients[%q]('/odd', %s)", client, names))
		p.until("got.at(-1) === 'an id alone has moved it'")
		return evaluate[[]fired](p, "fired")
	}
	browsers := read("EventSource")
	if e.name == "firefox" { // streams_test.go says how its EventSource differs
		browsers[len(browsers)-1].ID = "8"
		for i := range browsers {
			browsers[i].Data = strings.Replace(browsers[i].Data, "\U0001F3BA  ", "\U0001F3BA \x00 ", 1)
		}
	}
	require.Len(t, browsers, len(ids))
	for _, client := range polyfills {
		want := slices.Clone(browsers)
		if client.reads != "" {
			for i := range want {
				want[i].ID = ids[i]
				want[i].Data = strings.TrimLeft(want[i].Data, "\n")
			}
		}
		if client.positions != "" {
			// Its user cannot tell these from an empty message.
			want = slices.DeleteFunc(want, func(f fired) bool { return f.Type == "message" && f.Data == "" })
		}
		require.Equal(t, want, read(client.name), "%s: %s", client.name, client.reads)
	}
}
