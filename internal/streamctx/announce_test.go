package streamctx_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/streamctx"
)

var silent = slog.New(slog.DiscardHandler)

// wrapper notes what comes through it.
type wrapper struct {
	http.ResponseWriter
	calls         []string
	onWriteHeader func(http.Header)
}

func (s *wrapper) note(format string, args ...any) {
	s.calls = append(s.calls, fmt.Sprintf(format, args...))
}

func (s *wrapper) WriteHeader(status int) {
	s.note("%d %s", status, s.Header().Get("Content-Type"))
	if s.onWriteHeader != nil {
		s.onWriteHeader(s.Header())
	}
	s.ResponseWriter.WriteHeader(status)
}

func (s *wrapper) Write(b []byte) (int, error) {
	s.note("%q", b)
	return s.ResponseWriter.Write(b)
}

func (s *wrapper) Flush() {
	s.note("flush")
	s.ResponseWriter.(http.Flusher).Flush()
}

func setType(h http.Header) { h.Set("Content-Type", "text/event-stream") }

// announced has a claim of r, below a Bypass and a wrapper, announced, and returns the
// wrapper and what the server's writer got.
func announced(t *testing.T, r *http.Request, status int, set, onWriteHeader func(http.Header)) (*wrapper, *httptest.ResponseRecorder) {
	t.Helper()
	server, between := httptest.NewRecorder(), &wrapper{onWriteHeader: onWriteHeader}
	streamctx.Bypass(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		between.ResponseWriter = w
		w.Header().Set("X-Before", "1")
		claim := streamctx.ClaimOf(between, r)
		defer claim.Leave()
		require.NoError(t, claim.Take())
		claim.Announce(status, set, silent)
		if set != nil {
			set(claim.Writer.Header())
		}
		io.WriteString(claim.Writer, "the stream")
	})).ServeHTTP(server, r)
	return between, server
}

// Wrappers that a stream goes past see that the request is answered, with the stream's
// header. The client sees nothing of it.
func TestAnnounce(t *testing.T) {
	for _, test := range []struct {
		name   string
		r      *http.Request
		status int
		set    func(http.Header)
		want   []string
	}{
		{"an event stream", get(), 200, setType, []string{"200 text/event-stream", `":\n"`, "flush"}},
		{"its header alone", httptest.NewRequest("HEAD", "/", nil), 200, setType, []string{"200 text/event-stream", "flush"}},
		{"a WebSocket", get(), 101, nil, []string{"101 ", "flush"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			between, server := announced(t, test.r, test.status, test.set, nil)
			assert.Equal(t, test.want, between.calls)
			assert.Equal(t, "the stream", server.Body.String())
			assert.Equal(t, 200, server.Code)
			assert.False(t, server.Flushed)
			assert.Equal(t, "1", server.Header().Get("X-Before"))
		})
	}
}

// What wrappers do to their header when the response begins is done to the stream's, such
// as a session's cookie. They have no say in the stream's own fields, and in its content.
func TestHeaderOfAnAnnouncement(t *testing.T) {
	_, server := announced(t, get(), 200, setType, func(h http.Header) {
		h.Add("Set-Cookie", "a=1")
		h.Add("Set-Cookie", "b=2")
		h.Del("X-Before")
		h.Set("Content-Type", "text/plain")
		h.Set("Content-Encoding", "gzip")
	})
	assert.Equal(t, http.Header{"Set-Cookie": {"a=1", "b=2"}, "Content-Type": {"text/event-stream"}}, server.Header())
}

// storing is a wrapper that stores the status until it is flushed, as gin's writer does,
// and one around it.
type storing struct {
	http.ResponseWriter
	status int
}

func (s *storing) WriteHeader(status int) { s.status = status }
func (s *storing) Flush()                 { s.ResponseWriter.WriteHeader(s.status) }

type around struct{ http.ResponseWriter }

func (a around) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// A status that a router's writer stores gets to the wrappers outside of the router.
func TestAnnouncementPassesRouters(t *testing.T) {
	between := new(wrapper)
	bypassed(func(w http.ResponseWriter, r *http.Request) {
		between.ResponseWriter = w
		claim := streamctx.ClaimOf(around{&storing{ResponseWriter: between}}, r)
		defer claim.Leave()
		require.NoError(t, claim.Take())
		claim.Announce(101, nil, silent)
	})
	assert.Equal(t, []string{"101 "}, between.calls)
}

// Without a Bypass the stream itself writes through the wrappers.
func TestAnnounceWithoutBypass(t *testing.T) {
	between := &wrapper{ResponseWriter: httptest.NewRecorder()}
	claim := streamctx.ClaimOf(between, get())
	defer claim.Leave()
	require.NoError(t, claim.Take())
	claim.Announce(200, setType, silent)
	assert.Empty(t, between.calls)
	assert.Empty(t, between.Header())
}

// A wrapper that fails while the response begins is logged, and the stream begins.
func TestAnnouncementThatFails(t *testing.T) {
	for _, test := range []struct {
		name  string
		fails func(http.Header)
		log   string // part of it
		took  time.Duration
	}{
		{"a panic", func(http.Header) { panic("no store") }, "no store", 0},
		{"an abort", func(http.Header) { panic(http.ErrAbortHandler) }, "abort", 0},
		{"Goexit", func(http.Header) { runtime.Goexit() }, "Goexit", 0},
		{"a slow store", func(h http.Header) { time.Sleep(3 * time.Second); h.Set("X-Late", "1") }, "longer than 1s", time.Second},
		{"a store that never answers", func(h http.Header) { time.Sleep(time.Hour); h.Set("X-Late", "1") }, "longer than 1s", time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log strings.Builder
				began, stream := time.Now(), time.Duration(0)
				server := bypassed(func(w http.ResponseWriter, r *http.Request) {
					claim := streamctx.ClaimOf(&wrapper{ResponseWriter: w, onWriteHeader: test.fails}, r)
					defer claim.AwaitWrappers()
					defer claim.Leave()
					require.NoError(t, claim.Take())
					claim.Announce(200, setType, slog.New(slog.NewTextHandler(&log, nil)))
					stream = time.Since(began)
					io.WriteString(claim.Writer, "the stream")
				})
				assert.Equal(t, test.took, stream)
				assert.Equal(t, "the stream", server.Body.String())
				assert.Empty(t, server.Header().Get("X-Late"))
				assert.Contains(t, log.String(), test.log)
				assert.Contains(t, log.String(), "streamctx_test.wrapper")
				assert.LessOrEqual(t, time.Since(began), 10*time.Second)
				defer time.Sleep(2 * time.Hour) // until the wrapper has returned
				if test.name == "a slow store" {
					assert.Equal(t, 3*time.Second, time.Since(began), "the handler's wrappers are not used again before that")
				}
			})
		})
	}
}

// Clients whose streams begin below a wrapper that fails cannot fill the log.
func TestAnnouncementsThatFailDoNotFillTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		h := streamctx.Bypass(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fails := func(http.Header) { panic(strings.Repeat("x", 1<<20)) }
			claim := streamctx.ClaimOf(&wrapper{ResponseWriter: w, onWriteHeader: fails}, r)
			defer claim.Leave()
			require.NoError(t, claim.Take())
			claim.Announce(200, setType, slog.New(slog.NewTextHandler(&log, nil)))
		}))
		for range 30 { // in 3 s
			for range 10 {
				h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
			}
			time.Sleep(100 * time.Millisecond)
		}
		assert.Equal(t, 3, strings.Count(log.String(), "\n"), "lines")
		assert.Less(t, log.Len(), 60<<10)
	})
}

// A Flush that the wrappers do not support is no fault.
func TestAnnouncementWithoutFlush(t *testing.T) {
	for name, w := range map[string]func(http.ResponseWriter) http.ResponseWriter{
		"none": func(w http.ResponseWriter) http.ResponseWriter { return struct{ http.ResponseWriter }{w} },
		"it panics": func(w http.ResponseWriter) http.ResponseWriter {
			return &wrapper{ResponseWriter: struct{ http.ResponseWriter }{w}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var log strings.Builder
			bypassed(func(server http.ResponseWriter, r *http.Request) {
				claim := streamctx.ClaimOf(w(server), r)
				defer claim.Leave()
				require.NoError(t, claim.Take())
				claim.Announce(200, setType, slog.New(slog.NewTextHandler(&log, nil)))
			})
			assert.Empty(t, log.String())
		})
	}
}
