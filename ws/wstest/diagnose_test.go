package wstest_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/require"

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
