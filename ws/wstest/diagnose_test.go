package wstest_test

import (
	"bufio"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/ws"
	"github.com/fanfare-go/fanfare/ws/wstest"
)

// opaque wraps a ResponseWriter without Unwrap.
type opaque struct{ http.ResponseWriter }

// open wraps a ResponseWriter with Unwrap.
type open struct{ http.ResponseWriter }

func (o open) Unwrap() http.ResponseWriter { return o.ResponseWriter }

func wrapped(wrap func(http.ResponseWriter) http.ResponseWriter) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(wrap(w), r) })
	}
}

// delaying keeps the status until the body begins, as compressors do.
type delaying struct{ http.ResponseWriter }

func (d *delaying) WriteHeader(int) {}
func (d *delaying) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(d.ResponseWriter).Hijack()
}

// unwrapping is one with Unwrap.
type unwrapping struct{ *delaying }

func (u unwrapping) Unwrap() http.ResponseWriter { return u.ResponseWriter }

// garbling writes something of its own to a connection that is hijacked.
type garbling struct{ http.ResponseWriter }

func (g garbling) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(g.ResponseWriter).Hijack()
	if err == nil {
		_, _ = c.Write([]byte("\x1f\x8b\x08"))
	}
	return c, rw, err
}

// ifGzip applies a middleware to requests of clients that accept gzip.
func ifGzip(m func(http.Handler) http.Handler) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		wrapped := m(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
				wrapped.ServeHTTP(w, r)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

func TestDiagnoseNamesWhatBreaksAWebSocket(t *testing.T) {
	for _, test := range []struct {
		name  string
		chain func(http.Handler) http.Handler
		want  []string // parts of the error; nil: no error
	}{
		{"nothing", func(next http.Handler) http.Handler { return next }, nil},
		{"chi Recoverer", chimiddleware.Recoverer, nil},
		{"chi Compress of all text", chimiddleware.Compress(5, "text/*"), nil},
		{"chi Throttle", chimiddleware.Throttle(10), nil},
		{"chi Heartbeat", chimiddleware.Heartbeat("/ping"), nil},
		{"chi RequestSize", chimiddleware.RequestSize(1024), nil},
		{"chi RequestID", chimiddleware.RequestID, nil},
		{"a wrapper with Unwrap", wrapped(func(w http.ResponseWriter) http.ResponseWriter { return open{w} }), nil},
		{"chi Timeout", chimiddleware.Timeout(time.Minute), []string{"context ends after 1m0s"}},
		{"http.TimeoutHandler", func(next http.Handler) http.Handler { return http.TimeoutHandler(next, 30*time.Second, "") },
			[]string{"context ends after 30s", "*http.timeoutWriter has no Hijack"}},
		{"a wrapper without Unwrap", wrapped(func(w http.ResponseWriter) http.ResponseWriter { return opaque{w} }),
			[]string{"wstest_test.opaque has no Hijack"}},
		{"a compressor without Unwrap", ifGzip(wrapped(func(w http.ResponseWriter) http.ResponseWriter { return opaque{w} })),
			[]string{"wstest_test.opaque has no Hijack"}},
		{"a compressor that keeps the status", ifGzip(wrapped(func(w http.ResponseWriter) http.ResponseWriter { return open{unwrapping{&delaying{open{w}}}} })),
			[]string{"wstest_test.unwrapping keeps the status 101"}},
		{"one without Unwrap", ifGzip(wrapped(func(w http.ResponseWriter) http.ResponseWriter { return &delaying{w} })),
			[]string{"*wstest_test.delaying keeps the status 101"}},
		{"a wrapper that garbles the connection", wrapped(func(w http.ResponseWriter) http.ResponseWriter { return open{garbling{w}} }),
			[]string{"the connection carries nothing", "wstest_test.garbling"}},
		{"a middleware that refuses", chimiddleware.BasicAuth("x", nil), []string{"did not reach a WebSocket", "401"}},
		{"a handler of another kind", func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) })
		}, []string{"did not reach a WebSocket", "404"}},
	} {
		for target, handler := range map[string]http.Handler{
			"ws.Handler": &ws.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"a"}},
			"ws.Upgrade": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if c, err := ws.Upgrade(w, r, nil); err == nil {
					<-c.Context().Done()
				}
			}),
		} {
			t.Run(test.name+"/"+target, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					err := wstest.Diagnose(test.chain(handler), httptest.NewRequest("GET", "/", nil))
					past := wstest.Diagnose(middleware.Bypass(test.chain(handler)), httptest.NewRequest("GET", "/", nil))
					if len(test.want) == 0 || test.want[0] != "did not reach a WebSocket" {
						require.NoError(t, past, "Bypass leads past it")
					}
					if test.want == nil {
						require.NoError(t, err)
						return
					}
					require.Error(t, err)
					for _, want := range test.want {
						require.Contains(t, err.Error(), want)
					}
					t.Log(err)
				})
			})
		}
	}
}

// The request is a browser's, except for what it says itself.
func TestDiagnoseAsksAsABrowserDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []http.Header
		handler := &ws.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"a"}}
		route := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			seen = append(seen, r.Header.Clone())
			handler.ServeHTTP(w, r)
		})
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Cache-Control", "max-age=0")
		require.NoError(t, wstest.Diagnose(route, r))
		require.Len(t, seen, 1)
		require.Contains(t, seen[0].Get("Accept-Encoding"), "gzip")
		require.Contains(t, seen[0].Get("User-Agent"), "Mozilla")
		require.Equal(t, "max-age=0", seen[0].Get("Cache-Control"))
		require.Equal(t, http.Header{"Cache-Control": {"max-age=0"}}, r.Header, "the caller's request is left alone")
	})
}

// What the handler itself lacks is a finding, too: each request would be refused. The chain is
// examined all the same.
func TestDiagnoseNamesTheFieldThatIsMissing(t *testing.T) {
	grant := func(*http.Request) (*fanfare.Grant, error) { panic("no Grant is called") }
	for name, test := range map[string]struct {
		handler *ws.Handler
		want    string // empty: no error
	}{
		"no Broadcaster":            {&ws.Handler{Topics: []string{"a"}}, "wstest: ws: Handler.Broadcaster is nil"},
		"neither Topics nor Grant":  {&ws.Handler{Broadcaster: new(broadcast.Hub)}, "wstest: ws: Handler has neither Topics nor Grant"},
		"a Grant instead of Topics": {&ws.Handler{Broadcaster: new(broadcast.Hub), Grant: grant}, ""},
		"both, as it has to be":     {&ws.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"a"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				get := func() *http.Request { return httptest.NewRequest("GET", "/", nil) }
				err := wstest.Diagnose(test.handler, get())
				timeout := wstest.Diagnose(chimiddleware.Timeout(time.Minute)(test.handler), get())
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
