package ssetest_test

import (
	"bufio"
	"compress/gzip"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/sse/ssetest"
)

type middlewareFunc = func(http.Handler) http.Handler

// opaque wraps a ResponseWriter and says nothing about it.
type opaque struct{ http.ResponseWriter }

// open wraps a ResponseWriter as one should.
type open struct{ http.ResponseWriter }

func (o open) Unwrap() http.ResponseWriter { return o.ResponseWriter }

// flushOnly passes Flush on, and nothing else.
type flushOnly struct{ http.ResponseWriter }

func (f flushOnly) Flush() { f.ResponseWriter.(http.Flusher).Flush() }

// pretender has a Flush that does nothing, and holds everything back.
type pretender struct {
	http.ResponseWriter
	buffer *bufio.Writer
}

func (p pretender) Write(b []byte) (int, error) { return p.buffer.Write(b) }
func (p pretender) Flush()                      {}
func (p pretender) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// gzipped compresses, and flushes only what is below.
type gzipped struct {
	http.ResponseWriter
	w *gzip.Writer
}

func (g gzipped) Write(b []byte) (int, error) { return g.w.Write(b) }
func (g gzipped) Unwrap() http.ResponseWriter { return g.ResponseWriter }

func wrapped(wrap func(http.ResponseWriter) http.ResponseWriter) middlewareFunc {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(wrap(w), r) })
	}
}

func neverFlushed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		defer z.Close()
		next.ServeHTTP(gzipped{w, z}, r)
	})
}

// header sets one when the stream has set its own.
type header struct {
	http.ResponseWriter
	name, value string
}

func (h header) Unwrap() http.ResponseWriter { return h.ResponseWriter }
func (h header) WriteHeader(status int) {
	h.Header().Set(h.name, h.value)
	h.ResponseWriter.WriteHeader(status)
}

func quiet(next http.Handler) http.Handler {
	logger := chimiddleware.RequestLogger(&chimiddleware.DefaultLogFormatter{Logger: log.New(io.Discard, "", 0), NoColor: true})
	return logger(next)
}

func timeoutHandler(next http.Handler) http.Handler {
	return http.TimeoutHandler(next, 30*time.Second, "")
}

// chain is middleware, and what Diagnose says of it.
type chain struct {
	name    string
	wrap    middlewareFunc
	want    []string // in the report, each in a finding of its own; none: no report
	version int      // of HTTP; 0: 1.1
	answers bool     // by itself: the request never gets to a stream
}

var chains = []chain{
	{name: "nothing", wrap: func(next http.Handler) http.Handler { return next }},
	{name: "chi Logger", wrap: quiet},
	{name: "chi Recoverer", wrap: chimiddleware.Recoverer},
	{name: "chi Compress", wrap: chimiddleware.Compress(5)},
	{name: "chi Compress of all text", wrap: chimiddleware.Compress(5, "text/*")},
	{name: "chi Throttle", wrap: chimiddleware.Throttle(10)},
	{name: "chi Heartbeat", wrap: chimiddleware.Heartbeat("/ping")},
	{name: "chi RequestSize", wrap: chimiddleware.RequestSize(1024)},
	{name: "all of chi's at once", wrap: func(next http.Handler) http.Handler {
		return chimiddleware.RequestID(quiet(chimiddleware.Recoverer(chimiddleware.Compress(5, "text/*")(chimiddleware.Throttle(10)(next)))))
	}},
	{name: "over HTTP/2", version: 2, wrap: chimiddleware.Compress(5, "text/*")},
	{name: "a wrapper with Unwrap", wrap: wrapped(func(w http.ResponseWriter) http.ResponseWriter { return open{w} })},

	{name: "chi Timeout", wrap: chimiddleware.Timeout(time.Minute), want: []string{"context ends after 1m0s"}},
	{name: "http.TimeoutHandler", wrap: timeoutHandler, want: []string{
		"context ends after 30s", "deadlines cannot be reached past *http.timeoutWriter", "*http.timeoutWriter has no Flush"}},
	{name: "a wrapper without Unwrap", wrap: wrapped(func(w http.ResponseWriter) http.ResponseWriter { return opaque{w} }), want: []string{
		"deadlines cannot be reached past ssetest_test.opaque", "ssetest_test.opaque has no Flush"}},
	{name: "a wrapper that only flushes", wrap: wrapped(func(w http.ResponseWriter) http.ResponseWriter { return flushOnly{w} }), want: []string{
		"deadlines cannot be reached past ssetest_test.flushOnly"}},
	{name: "a wrapper that pretends to flush", wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b := bufio.NewWriter(w)
			defer b.Flush()
			next.ServeHTTP(open{pretender{open{w}, b}}, r)
		})
	}, want: []string{"held back by ssetest_test.pretender"}},
	{name: "gzip that is never flushed", wrap: neverFlushed, want: []string{"compressed (gzip) without flushing by ssetest_test.gzipped"}},
	{name: "a header that lets proxies cache", wrap: wrapped(func(w http.ResponseWriter) http.ResponseWriter {
		return header{w, "Cache-Control", "public, max-age=60"}
	}), want: []string{"without no-store", "without no-transform"}},
	{name: "a header that lets nginx hold back", wrap: wrapped(func(w http.ResponseWriter) http.ResponseWriter {
		return header{w, "X-Accel-Buffering", "yes"}
	}), want: []string{"nginx"}},
	{name: "another type", wrap: wrapped(func(w http.ResponseWriter) http.ResponseWriter {
		return header{w, "Content-Type", "text/plain"}
	}), want: []string{`Content-Type is "text/plain"`}},
	{name: "somebody who refuses", answers: true, wrap: chimiddleware.BasicAuth("x", nil), want: []string{"did not reach a stream: it was answered with 401 Unauthorized"}},
	{name: "somebody who hangs up", answers: true, wrap: func(http.Handler) http.Handler {
		return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	}, want: []string{"did not reach a stream"}},
	{name: "somebody who never answers", answers: true, wrap: func(http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	}, want: []string{"did not reach a stream"}},
}

func TestDiagnose(t *testing.T) {
	for _, test := range chains {
		for target, handler := range map[string]http.Handler{
			"sse.Handler": &sse.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"a"}},
			"sse.NewWriter": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s, err := sse.NewWriter(w, r, nil)
				if err != nil {
					return
				}
				defer s.Close()
				<-s.Context().Done()
			}),
		} {
			t.Run(test.name+"/"+target, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := httptest.NewRequest("GET", "/", nil)
					r.ProtoMajor = max(1, test.version)
					err := ssetest.Diagnose(test.wrap(handler), r)
					past := ssetest.Diagnose(middleware.Bypass(test.wrap(handler)), r)
					require.Equal(t, test.answers, past != nil, "with Bypass nothing is left of it: %v", past)
					if test.want == nil {
						require.NoError(t, err)
						return
					}
					require.Error(t, err)
					report := err.Error()
					for _, want := range test.want {
						require.Contains(t, report, want)
					}
					joined, ok := err.(interface{ Unwrap() []error })
					if ok {
						assert.Len(t, joined.Unwrap(), len(test.want), "and nothing else: %v", err)
					}
					t.Log(err)
				})
			})
		}
	}
}

// TestDocumentation keeps the table of docs/middleware.md and the tests alike.
func TestDocumentation(t *testing.T) {
	page, err := os.ReadFile("../../docs/middleware.md")
	require.NoError(t, err)
	rows := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, " | ")
		if len(cells) != 3 || strings.HasPrefix(line, "| middleware") {
			continue
		}
		rows++
		name := strings.TrimPrefix(cells[0], "| ")
		i := slices.IndexFunc(chains, func(c chain) bool { return c.name == name })
		if assert.GreaterOrEqual(t, i, 0, "%s is not tested", name) {
			assert.Equal(t, chains[i].want == nil, cells[1] == "nothing", name)
		}
	}
	require.Greater(t, rows, 10)
}
