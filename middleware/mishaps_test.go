package middleware_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/memnet"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/sse/ssetest"
	"github.com/fanfare-go/fanfare/ws"
	"github.com/fanfare-go/fanfare/ws/wstest"
)

// All have left, and Shutdown goes on waiting.
func TestDrainWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		drain := &middleware.Drain{Spread: time.Hour, Logger: silent}
		a := ssetest.Connect(t, drain.Handler(news(&hub)), get("/"))
		b := ssetest.Connect(t, drain.Handler(news(&hub)), get("/"))
		a.Status()
		b.Status()
		began := time.Now()
		time.AfterFunc(time.Second, func() { a.Close(); b.Close() })
		require.NoError(t, drain.Shutdown(t.Context()))
		require.Less(t, time.Since(began), 10*time.Second)
	})
}

// Ctx has ended, and nothing is held: is that an error?
func TestDrainCoin(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	got := map[string]int{}
	for range 200 {
		err := (&middleware.Drain{}).Shutdown(ctx)
		if err == nil {
			got["nil"]++
		} else {
			got[err.Error()]++
		}
	}
	require.Len(t, got, 1, "%v", got)
}

// A Spread so large that times the number of streams it overflows: those behind
// the overflow end at once.
func TestDrainHugeSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		h := news(&hub)
		h.Options.Heartbeat = -1
		drain := &middleware.Drain{Spread: 100 * 365 * 24 * time.Hour, Logger: silent}
		for range 4 {
			ssetest.Connect(t, drain.Handler(h), get("/")).Status()
		}
		go drain.Shutdown(t.Context())
		left := []int{}
		for range 4 {
			left = append(left, hub.Stats().Subscriptions)
			time.Sleep(25*365*24*time.Hour + time.Minute)
		}
		require.Equal(t, []int{4, 3, 2, 1}, left)
		time.Sleep(time.Hour)
	})
}

// Who is refused comes back on the same connection, and is refused again.
func TestDrainKeepsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		drain := &middleware.Drain{Spread: time.Minute, Logger: silent}
		l := memnet.Listen()
		server := &http.Server{Handler: drain.Handler(news(&hub))}
		go server.Serve(l)
		defer server.Close()
		stay := ssetest.Connect(t, drain.Handler(news(&hub)), get("/"))
		stay.Status()
		go drain.Shutdown(t.Context())
		synctest.Wait()
		conn, err := l.DialContext(t.Context(), "", "")
		require.NoError(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, "GET /news HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nCache-Control: no-cache\r\n\r\n")
		require.NoError(t, err)
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		b, _ := io.ReadAll(response.Body)
		require.Contains(t, string(b), "retry:")
		require.True(t, response.Close, "a balancer of connections cannot send it elsewhere otherwise")
	})
}

// The error of ctx.
func TestDrainError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		drain := &middleware.Drain{Logger: silent, Spread: -1}
		go func() {
			drain.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(time.Hour) })).ServeHTTP(httptest.NewRecorder(), get("/"))
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, io.ErrNoProgress)
		defer cancel()
		assert.ErrorIs(t, drain.Shutdown(ctx), context.DeadlineExceeded)
		time.Sleep(2 * time.Hour)
	})
}

// 1008 can be sent.
func TestDisconnectCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		limit := &middleware.Limit{Key: func(*http.Request) string { return "ann" }, Logger: silent}
		c := wstest.Dial(t, limit.Handler(&ws.Handler{Broadcaster: &hub, Topics: []string{"news"}, Logger: silent}), get("/"))
		_, _, err := c.Read(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, limit.Disconnect("ann", 1008, "policy"))
		_, _, err = c.Read(t.Context())
		require.Equal(t, ws.StatusCode(1008), ws.CloseStatus(err))
	})
}

// A Key that is a token gets into the log.
func TestLimitLogsKey(t *testing.T) {
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

// An allowed origin of the same host over another scheme gets no CORS headers, which a browser needs.
func TestOriginsOtherScheme(t *testing.T) {
	o := &middleware.Origins{Allow: []string{"http://example.com"}, Logger: silent}
	r := httptest.NewRequest("GET", "https://example.com/", nil)
	r.Header.Set("Origin", "http://example.com")
	w := httptest.NewRecorder()
	o.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(w, r)
	require.Equal(t, 200, w.Code)
	require.Equal(t, "http://example.com", w.Header().Get("Access-Control-Allow-Origin"))
}

// A token is found, and taken out, wherever it may be.
func TestTokenLeaks(t *testing.T) {
	token := &middleware.Token{Query: "token", Logger: silent}
	below := func(r *http.Request, outer func(http.Handler) http.Handler) (got *http.Request) {
		outer(token.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r }))).ServeHTTP(httptest.NewRecorder(), r)
		return got
	}
	id := func(h http.Handler) http.Handler { return h }
	stream := func(method, target string) *http.Request {
		r := httptest.NewRequest(method, target, nil)
		r.Header.Set("Accept", "text/event-stream")
		return r
	}
	t.Run("r.Form", func(t *testing.T) {
		r := stream("GET", "/a?token=secret")
		require.NoError(t, r.ParseForm())
		assert.Empty(t, below(r, id).FormValue("token"))
	})
	t.Run("a list in Upgrade", func(t *testing.T) {
		r := httptest.NewRequest("GET", "/a?token=secret", nil)
		r.Header.Set("Upgrade", "h2c, websocket") // which ws.Upgrade accepts
		got := below(r, id)
		assert.NotContains(t, got.RequestURI, "secret")
		assert.Equal(t, "Bearer secret", got.Header.Get("Authorization"))
	})
	t.Run("Accept of other case, in the second line", func(t *testing.T) {
		for _, accept := range [][]string{{"Text/Event-Stream"}, {"text/html", "text/event-stream"}} {
			r := httptest.NewRequest("GET", "/a?token=secret", nil)
			r.Header["Accept"] = accept // which sse.Handler accepts
			got := below(r, id)
			assert.NotContains(t, got.RequestURI, "secret")
		}
	})
	t.Run("a preflight", func(t *testing.T) {
		r := httptest.NewRequest("OPTIONS", "/a?token=secret", nil)
		r.Header.Set("Origin", "https://friend.example")
		r.Header.Set("Access-Control-Request-Method", "GET")
		r.Header.Set("Access-Control-Request-Headers", "last-event-id")
		got := below(r, id)
		assert.NotContains(t, got.RequestURI, "secret")
	})
	t.Run("StripPrefix", func(t *testing.T) {
		got := below(stream("GET", "/api/a?token=secret&b=c"), func(h http.Handler) http.Handler { return http.StripPrefix("/api", h) })
		assert.Equal(t, "/api/a?b=c", got.RequestURI, "what the client asked for, without the token")
		got = below(stream("GET", "/api/a?b=c"), func(h http.Handler) http.Handler { return http.StripPrefix("/api", h) })
		assert.Equal(t, "/api/a?b=c", got.RequestURI, "there is no token at all")
	})
}

// 405 and 406 are refusals, too.
func TestRefusalsLogged(t *testing.T) {
	var hub broadcast.Hub
	for name, r := range map[string]*http.Request{
		"405": httptest.NewRequest("DELETE", "/", nil),
		"406": func() *http.Request { r := get("/"); r.Header.Set("Accept", "text/html"); return r }(),
	} {
		var log bytes.Buffer
		h := &sse.Handler{Broadcaster: &hub, Topics: []string{"news"}, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		h.ServeHTTP(httptest.NewRecorder(), r)
		assert.Equal(t, 1, strings.Count(log.String(), "\n"), name)
	}
}

// A panic in somebody's WriteHeader.
type panics struct{ http.ResponseWriter }

func (panics) WriteHeader(int) { panic("somebody's WriteHeader") }
func (panics) Flush()          {}

func TestPanicInCommit(t *testing.T) {
	var hub broadcast.Hub
	func() {
		defer func() { recover() }()
		news(&hub).ServeHTTP(panics{httptest.NewRecorder()}, get("/"))
	}()
	require.Zero(t, hub.Stats().Subscriptions)
}
