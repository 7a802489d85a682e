package middleware_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/faults"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/sse/ssetest"
	"github.com/fanfare-go/fanfare/ws"
	"github.com/fanfare-go/fanfare/ws/wstest"
)

// from returns a request from an address.
func from(addr string) *http.Request {
	r := get("/")
	r.RemoteAddr = addr
	return r
}

// Each stream within the limits is accepted, each further one is refused, and what an
// ended stream counted for is free again.
func TestLimit(t *testing.T) {
	for _, test := range []struct {
		name, why string
		limit     *middleware.Limit
		addrs     []string
		want      []int
	}{
		{"zero", "there is no limit", &middleware.Limit{}, []string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3"}, []int{200, 200, 200}},
		{"Total", "it counts all clients", &middleware.Limit{Total: 2}, []string{"192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"}, []int{200, 200, 503}},
		{"PerKey", "each address is counted for itself", &middleware.Limit{PerKey: 1}, []string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.2:1"}, []int{200, 429, 200}},
		{"IPv6", "a client is given a whole network of addresses", &middleware.Limit{PerKey: 1}, []string{"[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8:0:1::1]:1"}, []int{200, 429, 200}},
		{"IPv4 in IPv6", "it is the same address", &middleware.Limit{PerKey: 1}, []string{"192.0.2.1:1", "[::ffff:192.0.2.1]:2"}, []int{200, 429}},
		{"both", "Total comes first", &middleware.Limit{Total: 1, PerKey: 1}, []string{"192.0.2.1:1", "192.0.2.1:2"}, []int{200, 503}},
		{"no key", "they count for Total only", &middleware.Limit{Total: 2, PerKey: 1, Key: func(*http.Request) string { return "" }},
			[]string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3"}, []int{200, 200, 503}},
		{"a negative Total", "it is an error at the first use", &middleware.Limit{Total: -1}, []string{"192.0.2.1:1"}, []int{500}},
		{"a negative PerKey", "it is an error at the first use", &middleware.Limit{PerKey: -1}, []string{"192.0.2.1:1"}, []int{500}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var hub broadcast.Hub
				test.limit.Logger = silent
				h := test.limit.Handler(news(&hub))
				var streams []*ssetest.Stream
				for i, addr := range test.addrs {
					s := ssetest.Connect(t, h, from(addr))
					assert.Equal(t, test.want[i], s.Status(), test.why)
					streams = append(streams, s)
				}
				// What has ended does not count any more.
				for _, s := range streams {
					s.Close()
				}
				synctest.Wait()
				if test.want[0] == 200 {
					require.Equal(t, 200, ssetest.Connect(t, h, from(test.addrs[0])).Status())
				}
			})
		})
	}
}

// A refused EventSource gets a stream that ends, any other client the status; the log
// gets the status and no query.
func TestLimitRefuses(t *testing.T) {
	for _, test := range []struct {
		name   string
		plain  bool
		header http.Header
		status int
	}{
		{"a browser's EventSource, which gives up on any other status", false, http.Header{"Accept": {"text/event-stream"}, "Cache-Control": {"no-cache"}}, 200},
		{"a client with fetch", false, http.Header{"Accept": {"text/event-stream"}}, 429},
		{"an EventSource behind a proxy that tries the next server", true, http.Header{"Accept": {"text/event-stream"}, "Cache-Control": {"no-cache"}}, 429},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var hub broadcast.Hub
				var log strings.Builder
				limit := &middleware.Limit{PerKey: 1, Plain: test.plain, Logger: slog.New(slog.NewTextHandler(&log, nil))}
				h := limit.Handler(news(&hub))
				ssetest.Connect(t, h, get("/"))
				r := get("/news?token=secret")
				r.Header = test.header
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				require.Equal(t, test.status, w.Code)
				require.NotEmpty(t, w.Header().Get("Retry-After"))
				require.Equal(t, test.status == 200, strings.HasPrefix(w.Body.String(), "retry: "), w.Body.String())
				require.Equal(t, 1, strings.Count(log.String(), "\n"), "logged once")
				require.Contains(t, log.String(), "status=429", "not the 200 of an EventSource")
				require.Contains(t, log.String(), "Limit.PerKey")
				require.NotContains(t, log.String(), "secret")
			})
		})
	}
}

// What Key returns may be a secret, and is not logged.
func TestLimitDoesNotLogTheKey(t *testing.T) {
	var log bytes.Buffer
	limit := &middleware.Limit{PerKey: 1, Key: func(r *http.Request) string { return r.Header.Get("Authorization") }, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	r := get("/")
	r.Header.Set("Authorization", "Bearer secret")
	var inner http.Handler
	h := limit.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if inner != nil {
			inner.ServeHTTP(httptest.NewRecorder(), r)
		}
	}))
	inner = limit.Handler(http.NotFoundHandler())
	h.ServeHTTP(httptest.NewRecorder(), r)
	require.Contains(t, log.String(), "refused")
	require.NotContains(t, log.String(), "secret")
}

// A negative limit is refused with an error that names the field, also to an EventSource.
func TestLimitNamesTheNegativeField(t *testing.T) {
	for name, limit := range map[string]*middleware.Limit{
		"Limit.Total is -1":  {Total: -1, PerKey: 2},
		"Limit.PerKey is -2": {Total: 1, PerKey: -2},
	} {
		var log strings.Builder
		limit.Logger = slog.New(slog.NewTextHandler(&log, nil))
		r := get("/")
		r.Header = http.Header{"Accept": {"text/event-stream"}, "Cache-Control": {"no-cache"}}
		w := httptest.NewRecorder()
		limit.Handler(http.NotFoundHandler()).ServeHTTP(w, r)
		assert.Equal(t, 500, w.Code)
		assert.Contains(t, log.String(), name)
	}
}

// While clients come and go there are never more than the limit, and in the end nothing
// is counted.
func TestLimitWhileOthersLeave(t *testing.T) {
	limit := &middleware.Limit{Total: 5, PerKey: 3, Logger: silent}
	var now, most, refused atomic.Int64
	h := limit.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if n == 3 {
			panic("below a Limit")
		}
	}))
	var clients sync.WaitGroup
	for c := range 8 {
		clients.Go(func() {
			for range 500 {
				func() {
					defer func() { _ = recover() }()
					w := httptest.NewRecorder()
					h.ServeHTTP(w, from(fmt.Sprintf("192.0.2.%d:1", c%2)))
					if w.Code != 200 {
						refused.Add(1)
					}
				}()
			}
		})
	}
	clients.Wait()
	require.LessOrEqual(t, most.Load(), int64(5))
	require.Zero(t, now.Load())
	require.Zero(t, limit.Open(), "nothing is counted")
}

// The stream of a client that vanishes is counted until it is cut.
func TestLimitOfAClientThatVanishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		h := (&middleware.Limit{Total: 1, Logger: silent}).Handler(news(&hub))
		var link faults.Link
		ssetest.Connect(t, h, faults.Via(get("/"), &link))
		link.Vanish()
		require.Equal(t, 503, ssetest.Connect(t, h, get("/")).Status())
		time.Sleep(time.Minute)
		require.Equal(t, 200, ssetest.Connect(t, h, get("/")).Status())
	})
}

// A stream is counted as long as it runs, also if a timeout has returned.
func TestLimitAfterATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		limit := &middleware.Limit{Total: 1, Logger: silent}
		h := middleware.Bypass(limit.Handler(chains["http.TimeoutHandler"](news(&hub))))
		s := ssetest.Connect(t, h, get("/"))
		time.Sleep(time.Hour)
		require.Equal(t, 503, ssetest.Connect(t, h, get("/")).Status(), "the stream still counts")
		s.Close()
		synctest.Wait()
		require.Equal(t, 200, ssetest.Connect(t, h, get("/")).Status())
	})
}

// A stream whose handler was timed out while it began is counted once.
func TestLimitOfAStreamThatOutlivesATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		limit := &middleware.Limit{Total: 1, Logger: silent}
		h := &ws.Handler{Broadcaster: &hub, Topics: []string{"news"}, Logger: silent,
			Receive: func(*http.Request, *ws.Conn) func(ws.MessageType, []byte) error {
				time.Sleep(40 * time.Second) // longer than the timeout
				return func(ws.MessageType, []byte) error { return nil }
			}}
		chain := middleware.Bypass(limit.Handler(http.TimeoutHandler(h, 30*time.Second, "too late")))
		c := wstest.Dial(t, chain, get("/"))
		time.Sleep(time.Minute)
		require.Equal(t, 503, ssetest.Connect(t, limit.Handler(news(&hub)), get("/")).Status(), "the stream counts")
		require.NoError(t, c.Close(ws.StatusNormalClosure, ""))
		synctest.Wait()
		a := ssetest.Connect(t, limit.Handler(news(&hub)), get("/"))
		require.Equal(t, 200, a.Status())
		require.Equal(t, 503, ssetest.Connect(t, limit.Handler(news(&hub)), get("/")).Status(), "a counts, and only once")
	})
}

// A Writer that its handler has not closed is counted until the handler returns.
func TestLimitOfAForgottenWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := (&middleware.Limit{Total: 1, Logger: silent}).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, err := sse.NewWriter(w, r, nil)
			assert.NoError(t, err)
		}))
		require.NoError(t, ssetest.Connect(t, h, get("/")).End())
		synctest.Wait()
		require.Equal(t, 200, ssetest.Connect(t, h, get("/")).Status())
	})
}
