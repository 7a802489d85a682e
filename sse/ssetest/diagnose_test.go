package ssetest_test

import (
	"bufio"
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

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/faults"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/sse/ssetest"
)

// chain is middleware, and what Diagnose reports about it.
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

	{name: "an access log that keeps the body", wrap: wrapped(func(w http.ResponseWriter) http.ResponseWriter { return &keeping{ResponseWriter: w} }), want: []string{
		"of 100 KB that were written, at least 100 KB are still in memory"}},
	{name: "chi's Tee", wrap: teeing, want: []string{"still in memory"}},
	{name: "chi's Tee, compressed outside of it", wrap: func(next http.Handler) http.Handler {
		return chimiddleware.Compress(5, "text/*")(teeing(next))
	}, want: []string{"still in memory"}},
	{name: "the same over HTTP/2", version: 2, wrap: teeing, want: []string{"still in memory"}},

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
	{name: "a label of gzip, and plain bytes", wrap: labels("gzip", plainly), want: []string{`Content-Encoding is "gzip", but the bytes are not encoded`}},
	{name: "a label of br, and plain bytes", wrap: labels("br", plainly), want: []string{`Content-Encoding is "br", but the bytes are not encoded`}},
	{name: "a label of gzip, and deflate", wrap: labels("gzip", deflating), want: []string{"the bytes are not gzip"}},
	{name: "a label of deflate, and gzip", wrap: labels("deflate", gzipping), want: []string{"the bytes are not deflate"}},
	{name: "a label of zstd, and gzip", wrap: labels("zstd", gzipping), want: []string{"the bytes are not zstd"}},
	{name: "gzip twice, and one label", wrap: labels("gzip", gzippingTwice), want: []string{"what it decodes to is not the stream"}},
	{name: "gzip without a label", wrap: labels("", gzipping), want: []string{"there is no Content-Encoding"}},
	{name: "a label that no browser knows", wrap: labels("squeezed", gzipping), want: []string{"browsers do not know it"}},
	{name: "other bytes", wrap: labels("", prefixed("")), want: []string{"are not those of the stream"}},
	{name: "a label of gzip, and gzip", wrap: labels("GZIP", gzipping)},
	{name: "a label of gzip twice, and gzip twice", wrap: labels("gzip, gzip", gzippingTwice)},
	{name: "a label of deflate, and deflate", wrap: labels("deflate", zlibbing)},
	{name: "a label of deflate, and deflate without its header", wrap: labels("deflate", deflating)},
	{name: "a label of identity", wrap: labels("identity", plainly)},
	{name: "a label of zstd, and zstd", wrap: labels("zstd", prefixed("\x28\xb5\x2f\xfd"))},
	{name: "a label of br, and what may be br", wrap: labels("br", prefixed("\x8b"))},
	{name: "a header that lets proxies cache", wrap: wrapped(func(w http.ResponseWriter) http.ResponseWriter {
		return header{w, "Cache-Control", "public, max-age=60"}
	}), want: []string{"without no-store", "without no-transform"}},
	{name: "a header that lets nginx hold back", wrap: wrapped(func(w http.ResponseWriter) http.ResponseWriter {
		return header{w, "X-Accel-Buffering", "yes"}
	}), want: []string{"nginx"}},
	{name: "another type", wrap: wrapped(func(w http.ResponseWriter) http.ResponseWriter {
		return header{w, "Content-Type", "text/plain"}
	}), want: []string{`Content-Type is "text/plain"`}},
	{name: "a middleware that refuses", answers: true, wrap: chimiddleware.BasicAuth("x", nil), want: []string{"did not reach a stream: it was answered with 401 Unauthorized"}},
	{name: "a handler that hangs up", answers: true, wrap: func(http.Handler) http.Handler {
		return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	}, want: []string{"did not reach a stream"}},
	{name: "a handler that never answers", answers: true, wrap: func(http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	}, want: []string{"did not reach a stream"}},
}

// Diagnose reports everything in a chain that breaks a stream, each once, and nothing else.
// Bypass leads past all of it.
func TestDiagnoseNamesWhatBreaksAStream(t *testing.T) {
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
					require.Equal(t, test.answers, past != nil, "Bypass leads past all of it: %v", past)
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

// What the handler itself lacks is a finding, too: each request would be refused. The chain is
// examined all the same.
func TestDiagnoseNamesTheFieldThatIsMissing(t *testing.T) {
	grant := func(*http.Request) (*fanfare.Grant, error) { panic("no Grant is called") }
	for name, test := range map[string]struct {
		handler *sse.Handler
		want    string // empty: no error
	}{
		"no Broadcaster":            {&sse.Handler{Topics: []string{"a"}}, "ssetest: sse: Handler.Broadcaster is nil"},
		"neither Topics nor Grant":  {&sse.Handler{Broadcaster: new(broadcast.Hub)}, "ssetest: sse: Handler has neither Topics nor Grant"},
		"a Grant instead of Topics": {&sse.Handler{Broadcaster: new(broadcast.Hub), Grant: grant}, ""},
		"both, as it has to be":     {&sse.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"a"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				err := ssetest.Diagnose(test.handler, get())
				timeout := ssetest.Diagnose(chimiddleware.Timeout(time.Minute)(test.handler), get())
				require.ErrorContains(t, timeout, "context ends after 1m0s")
				if test.want == "" {
					require.NoError(t, err)
					return
				}
				require.EqualError(t, err, test.want)
				require.ErrorContains(t, timeout, test.want)
			})
		})
	}
}

// A wrapper that panics when a stream writes to it is a finding.
func TestDiagnoseReportsAWrapperThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := wrapped(func(w http.ResponseWriter) http.ResponseWriter { return asserting{open{w}} })(target())
		err := ssetest.Diagnose(h, get())
		t.Log(err)
		require.Error(t, err)
		err = ssetest.Diagnose(chimiddleware.Recoverer(h), get())
		t.Log(err)
		require.Error(t, err)
	})
}

// A response that is held back is one finding: its header, which has not been sent, is not
// reported as well.
func TestDiagnoseReportsAHeldBackResponseOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, h := range map[string]http.Handler{
			"handler": target(),
			"writer": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s, err := sse.NewWriter(w, r, nil)
				if err != nil {
					http.Error(w, "no", 500)
					return
				}
				defer s.Close()
			}),
		} {
			err := ssetest.Diagnose(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				b := &buffered{inner: w, header: http.Header{}}
				h.ServeHTTP(b, r)
				for k, v := range b.header {
					w.Header()[k] = v
				}
				w.WriteHeader(b.status)
				w.Write(b.body.Bytes())
			}), get())
			t.Log(name, err)
			require.Len(t, err.(interface{ Unwrap() []error }).Unwrap(), 1, name)
		}
	})
}

// The wrapper that holds a stream back is found among many that do not.
func TestDiagnoseFindsTheWrapperInADeepChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := target()
		for range 14 {
			h = wrapped(func(w http.ResponseWriter) http.ResponseWriter { return open{w} })(h)
		}
		inner := h
		h = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b := bufio.NewWriter(w)
			defer b.Flush()
			inner.ServeHTTP(pretender{w, b}, r)
		})
		err := ssetest.Diagnose(h, get())
		t.Log(err)
		require.ErrorContains(t, err, "ssetest_test.pretender")
	})
}

// Bypass does not lead past a proxy: the connection on its other side is another one.
func TestBypassDoesNotLeadPastAProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := target()
		err := ssetest.Diagnose(middleware.Bypass(faults.Buffer(h)), get())
		t.Log(err)
		require.Error(t, err, "a proxy cannot be passed by Bypass on the other side of it")
	})
}

// Each row of the table in docs/middleware.md is a case of these tests.
func TestDocumentedMiddlewareIsTested(t *testing.T) {
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
