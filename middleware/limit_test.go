package middleware_test

import (
	"context"
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

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/faults"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/sse/ssetest"
	"github.com/fanfare-go/fanfare/ws"
	"github.com/fanfare-go/fanfare/ws/wstest"
)

// from is a request from an address.
func from(addr string) *http.Request {
	r := get("/")
	r.RemoteAddr = addr
	return r
}

func TestLimit(t *testing.T) {
	for _, test := range []struct {
		name, why string
		limit     *middleware.Limit
		addrs     []string
		want      []int
	}{
		{"none", "the zero Limit has none", &middleware.Limit{}, []string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3"}, []int{200, 200, 200}},
		{"Total", "whoever it is", &middleware.Limit{Total: 2}, []string{"192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"}, []int{200, 200, 503}},
		{"PerKey", "another address has places of its own", &middleware.Limit{PerKey: 1}, []string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.2:1"}, []int{200, 429, 200}},
		{"IPv6", "a client has a whole network of them", &middleware.Limit{PerKey: 1}, []string{"[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8:0:1::1]:1"}, []int{200, 429, 200}},
		{"IPv4 in IPv6", "it is the same address", &middleware.Limit{PerKey: 1}, []string{"192.0.2.1:1", "[::ffff:192.0.2.1]:2"}, []int{200, 429}},
		{"both", "Total comes first", &middleware.Limit{Total: 1, PerKey: 1}, []string{"192.0.2.1:1", "192.0.2.1:2"}, []int{200, 503}},
		{"no key", "they count for Total alone", &middleware.Limit{Total: 2, PerKey: 1, Key: func(*http.Request) string { return "" }},
			[]string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3"}, []int{200, 200, 503}},
		{"impossible", "it is said at the first use", &middleware.Limit{Total: -1}, []string{"192.0.2.1:1"}, []int{500}},
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
				// Places come back when streams end.
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

// TestLimitRefuses has clients of all kinds be told in their own way.
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
				require.Contains(t, log.String(), "status=429", "as what it stands for")
				require.Contains(t, log.String(), "Limit.PerKey")
				require.NotContains(t, log.String(), "secret")
			})
		})
	}
}

// TestLimitWhileOthersLeave has clients come and go at once: there are never more than
// the limit, and in the end all places are free.
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
	require.Zero(t, limit.Disconnect("192.0.2.0", 0, ""), "nobody is left")
}

func TestDisconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		limit := &middleware.Limit{Key: func(r *http.Request) string { return r.FormValue("user") }, Logger: silent}
		revoked := false
		grant := func(*http.Request) (*fanfare.Grant, error) {
			if revoked {
				return nil, &fanfare.Refusal{Status: 403}
			}
			return &fanfare.Grant{Topics: []string{"news"}}, nil
		}
		events := limit.Handler(&sse.Handler{Broadcaster: &hub, Grant: grant, Logger: silent})
		socket := limit.Handler(&ws.Handler{Broadcaster: &hub, Grant: grant, Logger: silent, Encode: ws.Raw})
		upgrade := limit.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if c, err := ws.Upgrade(w, r, nil); err == nil {
				c.CloseRead()
				<-c.Context().Done()
			}
		}))
		ended := make(chan error, 1)
		tokens := limit.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s, err := sse.NewWriter(w, r, nil)
			if assert.NoError(t, err) {
				defer s.Close()
				<-s.Context().Done()
				ended <- context.Cause(s.Context())
			}
		}))
		s, other := ssetest.Connect(t, events, get("/?user=ann")), ssetest.Connect(t, events, get("/?user=bob"))
		writer := ssetest.Connect(t, tokens, get("/?user=ann"))
		c, u := wstest.Dial(t, socket, get("/?user=ann")), wstest.Dial(t, upgrade, get("/?user=ann"))
		synctest.Wait()

		revoked = true
		require.Equal(t, 4, limit.Disconnect("ann", 4001, "your rights were revoked"))
		require.Equal(t, 0, limit.Disconnect("nobody", 0, ""))
		require.NoError(t, s.End())
		require.NoError(t, writer.End())
		require.ErrorContains(t, <-ended, "the server has ended the stream")
		for _, c := range []*ws.Conn{c, u} {
			_, _, err := c.Read(t.Context())
			var closed *ws.CloseError
			require.ErrorAs(t, err, &closed)
			require.Equal(t, ws.CloseError{Code: 4001, Reason: "your rights were revoked"}, *closed)
		}
		s.Reconnect()
		require.Equal(t, 403, s.Status(), "it comes back, and is granted anew")
		say(t, &hub, "to the others")
		require.Equal(t, "to the others", string(other.Next().Data))
		synctest.Wait()
		require.Equal(t, 1, limit.Disconnect("bob", 0, ""))
	})
}

// TestDisconnectMeanwhile has a stream that is still being granted.
func TestDisconnectMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		limit := &middleware.Limit{Key: func(*http.Request) string { return "ann" }, Logger: silent}
		h := limit.Handler(&ws.Handler{Broadcaster: &hub, Logger: silent, Grant: func(*http.Request) (*fanfare.Grant, error) {
			time.Sleep(time.Second)
			return &fanfare.Grant{Topics: []string{"news"}}, nil
		}})
		time.AfterFunc(500*time.Millisecond, func() { assert.Equal(t, 1, limit.Disconnect("ann", 0, "")) })
		c := wstest.Dial(t, h, get("/"))
		for {
			if _, _, err := c.Read(t.Context()); err != nil {
				require.Equal(t, ws.StatusForbidden, ws.CloseStatus(err))
				return
			}
		}
	})
}

// TestLimitOfAClientThatVanishes has its place come back, too.
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

// TestLimitOutlivesTheHandler has a timeout return while the stream goes on.
func TestLimitOutlivesTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		limit := &middleware.Limit{Total: 1, Logger: silent}
		h := middleware.Bypass(limit.Handler(chains["http.TimeoutHandler"](news(&hub))))
		s := ssetest.Connect(t, h, get("/"))
		time.Sleep(time.Hour)
		require.Equal(t, 503, ssetest.Connect(t, h, get("/")).Status(), "its place is still taken")
		s.Close()
		synctest.Wait()
		require.Equal(t, 200, ssetest.Connect(t, h, get("/")).Status())
	})
}

// TestLimitOfAForgottenWriter has a handler return without Close.
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
