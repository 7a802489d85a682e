package interop_test

import (
	"compress/gzip"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
	gingzip "github.com/gin-contrib/gzip"
	"github.com/gin-gonic/gin"
	"github.com/go-chi/httprate"
	"github.com/gorilla/csrf"
	"github.com/gorilla/handlers"
	"github.com/gorilla/sessions"
	"github.com/justinas/nosurf"
	"github.com/klauspost/compress/gzhttp"
	"github.com/labstack/echo/v4"
	echomiddleware "github.com/labstack/echo/v4/middleware"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/starfederation/datastar-go/datastar"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/sse/ssetest"
)

// compressors compress what a browser asks for.
var compressors = map[string]func(http.Handler) http.Handler{
	"gorilla": handlers.CompressHandler,
	"gin-contrib": func(next http.Handler) http.Handler {
		gin.SetMode(gin.ReleaseMode)
		router := gin.New()
		router.Use(gingzip.Gzip(gzip.DefaultCompression))
		router.Any("/*path", gin.WrapH(next))
		return router
	},
	"klauspost": func(next http.Handler) http.Handler { return gzhttp.GzipHandler(next) },
	"echo": func(next http.Handler) http.Handler {
		router := echo.New()
		router.Use(echomiddleware.Gzip())
		router.Any("/*", echo.WrapHandler(next))
		return router
	},
}

// Streams are readable below compressors: the label fits the bytes.
func TestStreamsBelowCompressors(t *testing.T) {
	for name, compressor := range compressors {
		t.Run(name, func(t *testing.T) {
			eachChain(t, compressor, nil, func(t *testing.T, c *chained) {
				_, leave := c.open(t, nil)
				leave()
				next(t, c.returned)
			})
		})
	}
}

// Diagnose finds nothing wrong below them, with Bypass.
func TestDiagnoseOfCompressors(t *testing.T) {
	for name, compressor := range compressors {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			require.NoError(t, ssetest.Diagnose(middleware.Bypass(compressor(kinds[0].make(nil))), r))
		})
	}
}

// documented has a test for each row of the table in docs/middleware.md.
var documented = map[string]func(*testing.T){
	"alexedwards/scs":       testSCS,
	"gorilla/sessions":      testGorillaSessions,
	"gorilla/csrf":          testGorillaCSRF,
	"justinas/nosurf":       testNosurf,
	"prometheus (promhttp)": testPromhttp,
	"otelhttp":              testOtelhttp,
	"go-chi/httprate":       testHttprate,
}

// What docs/middleware.md says of each middleware is tried with the real one.
func TestDocumentedMiddleware(t *testing.T) {
	page, err := os.ReadFile("../../docs/middleware.md")
	require.NoError(t, err)
	_, section, ok := strings.Cut(string(page), "\n## Sessions, tokens, metrics and rates\n")
	require.True(t, ok)
	section, _, _ = strings.Cut(section, "\n## ")
	rows := 0
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) != 4 || strings.HasPrefix(cells[1], "---") || strings.TrimSpace(cells[1]) == "middleware" {
			continue
		}
		rows++
		assert.Contains(t, documented, strings.TrimSpace(cells[1]))
	}
	require.Len(t, documented, rows)
	for name, test := range documented {
		t.Run(name, test)
	}
}

// A session that is destroyed while a stream of it is open stays destroyed when that
// ends, and the stream's answer renews its cookie.
//
// A detached event stream without Bypass goes past scs: its answer has no cookie, and the
// session is saved when the handlers return, so that a sign-out just before that is undone.
func testSCS(t *testing.T) {
	var manager *scs.SessionManager
	var signedOut chan struct{} // the stream's handlers return after it is closed; nil: at once
	pages := http.NewServeMux()
	pages.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) { manager.Put(r.Context(), "user", "ann") })
	pages.HandleFunc("/logout", func(w http.ResponseWriter, r *http.Request) { assert.NoError(t, manager.Destroy(r.Context())) })
	wrap := func(next http.Handler) http.Handler {
		late := signedOut
		// As scs.New makes it, without the goroutine of its store, which cannot be stopped safely.
		manager = &scs.SessionManager{
			IdleTimeout: time.Hour, Lifetime: 24 * time.Hour, Store: memstore.NewWithCleanupInterval(0), Codec: scs.GobCodec{},
			Cookie: scs.SessionCookie{Name: "session", HttpOnly: true, Path: "/", Persist: true, SameSite: http.SameSiteLaxMode},
			ErrorFunc: func(w http.ResponseWriter, _ *http.Request, err error) {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			},
		}
		return manager.LoadAndSave(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(w, r)
			if late != nil && r.URL.Path == "/stream" {
				<-late
			}
		}))
	}
	test := func(t *testing.T, c *chained) {
		get := func(path string, cookies string) *http.Response {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.URL+path, nil)
			require.NoError(t, err)
			if cookies != "" {
				r.Header.Set("Cookie", cookies)
			}
			response, err := c.client.Do(r)
			require.NoError(t, err)
			response.Body.Close()
			return response
		}
		cookie := get("/login", "").Cookies()[0]
		session := cookie.Name + "=" + cookie.Value
		answer, leave := c.open(t, http.Header{"Cookie": {session}})
		goesPast := !c.bypass && c.name == "sse.Handler detached"
		if goesPast {
			assert.Empty(t, answer.Values("Set-Cookie"))
		} else {
			assert.Len(t, answer.Values("Set-Cookie"), 1, "it is renewed")
		}
		if goesPast && signedOut == nil {
			next(t, c.returned)
			c.returned <- struct{}{}
		}
		get("/logout", session)
		_, found, err := manager.Store.Find(cookie.Value)
		require.NoError(t, err)
		require.False(t, found)
		if signedOut != nil {
			close(signedOut)
			signedOut = make(chan struct{})
		}
		leave()
		next(t, c.returned)
		_, found, err = manager.Store.Find(cookie.Value)
		require.NoError(t, err)
		assert.Equal(t, goesPast && signedOut != nil, found, "the session is back")
	}
	eachChain(t, wrap, pages, test)
	t.Run("while the handlers return", func(t *testing.T) {
		signedOut = make(chan struct{})
		eachChain(t, wrap, pages, test)
	})
}

// What is saved before the stream begins gets to the client.
func testGorillaSessions(t *testing.T) {
	store := sessions.NewCookieStore([]byte("0123456789abcdef0123456789abcdef"))
	eachChain(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			session, err := store.Get(r, "visits")
			assert.NoError(t, err)
			session.Values["user"] = "ann"
			assert.NoError(t, session.Save(r, w))
			next.ServeHTTP(w, r)
		})
	}, nil, func(t *testing.T, c *chained) {
		answer, leave := c.open(t, nil)
		defer leave()
		require.Contains(t, answer.Get("Set-Cookie"), "visits=")
	})
}

// testTokens tries a middleware that wants a token: streams by GET need none, and a Writer
// that answers a POST does.
func testTokens(t *testing.T, wrap func(http.Handler) http.Handler, refused int) {
	eachChain(t, wrap, nil, func(t *testing.T, c *chained) {
		answer, leave := c.open(t, nil)
		defer leave()
		assert.NotEmpty(t, answer.Get("Set-Cookie"), "the token's cookie")
		response, err := c.client.Post(c.URL+"/stream", "text/plain", strings.NewReader("prompt"))
		require.NoError(t, err)
		response.Body.Close()
		assert.Equal(t, refused, response.StatusCode)
	})
}

func testGorillaCSRF(t *testing.T) {
	testTokens(t, csrf.Protect([]byte("0123456789abcdef0123456789abcdef"), csrf.Secure(false)), http.StatusForbidden)
}

func testNosurf(t *testing.T) {
	testTokens(t, func(next http.Handler) http.Handler { return nosurf.New(next) }, http.StatusBadRequest)
}

// A stream is counted with its status, and its whole life is one observation.
func testPromhttp(t *testing.T) {
	var requests *prometheus.CounterVec
	var durations, headers *prometheus.HistogramVec
	var open prometheus.Gauge
	wrap := func(next http.Handler) http.Handler {
		requests = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "requests"}, []string{"code"})
		durations = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "seconds"}, []string{"code"})
		headers = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "seconds_to_header"}, []string{"code"})
		open = prometheus.NewGauge(prometheus.GaugeOpts{Name: "open"})
		return promhttp.InstrumentHandlerInFlight(open, promhttp.InstrumentHandlerDuration(durations,
			promhttp.InstrumentHandlerTimeToWriteHeader(headers, promhttp.InstrumentHandlerCounter(requests, next))))
	}
	eachChain(t, wrap, nil, func(t *testing.T, c *chained) {
		_, leave := c.open(t, nil)
		if !strings.Contains(c.name, "detached") {
			assert.Equal(t, 1.0, testutil.ToFloat64(open))
			assert.Zero(t, testutil.CollectAndCount(durations), "it lives")
		}
		leave()
		next(t, c.returned)
		code := "200"
		if c.socket {
			code = "101"
		}
		assert.Equal(t, 1.0, testutil.ToFloat64(requests.WithLabelValues(code)))
		assert.Equal(t, 1, testutil.CollectAndCount(durations))
		if c.bypass || c.name != "sse.Handler detached" {
			assert.Equal(t, 1, testutil.CollectAndCount(headers), "with its status")
		}
	})
}

// A stream is one observation of the server's duration, unless a filter leaves it out.
func testOtelhttp(t *testing.T) {
	for name, leaveOut := range map[string]bool{"all": false, "without streams": true} {
		t.Run(name, func(t *testing.T) {
			var reader *metric.ManualReader
			wrap := func(next http.Handler) http.Handler {
				reader = metric.NewManualReader()
				return otelhttp.NewHandler(next, "live", otelhttp.WithMeterProvider(metric.NewMeterProvider(metric.WithReader(reader))),
					otelhttp.WithFilter(func(r *http.Request) bool { return !leaveOut || r.URL.Path != "/stream" }))
			}
			observations := func(t *testing.T) (n uint64) {
				var got metricdata.ResourceMetrics
				require.NoError(t, reader.Collect(context.Background(), &got))
				for _, scope := range got.ScopeMetrics {
					for _, m := range scope.Metrics {
						if h, ok := m.Data.(metricdata.Histogram[float64]); ok && m.Name == "http.server.request.duration" {
							for _, p := range h.DataPoints {
								n += p.Count
							}
						}
					}
				}
				return n
			}
			eachChain(t, wrap, nil, func(t *testing.T, c *chained) {
				_, leave := c.open(t, nil)
				leave()
				next(t, c.returned)
				want := uint64(1)
				if leaveOut {
					want = 0
				}
				assert.Equal(t, want, observations(t))
			})
		})
	}
}

// Each connection counts, also one that comes back, and an EventSource comes back after a
// refusal by fanfare.Refuse.
func testHttprate(t *testing.T) {
	wrap := func(next http.Handler) http.Handler {
		return httprate.LimitBy(1, time.Hour, func(*http.Request) (string, error) { return "everybody", nil }, httprate.WithLimitHandler(func(w http.ResponseWriter, r *http.Request) {
			fanfare.Refuse(w, r, &fanfare.Refusal{Status: http.StatusTooManyRequests, RetryAfter: time.Minute})
		}))(next)
	}
	eachChain(t, wrap, nil, func(t *testing.T, c *chained) {
		_, leave := c.open(t, nil)
		leave()
		next(t, c.returned)
		for accept, status := range map[string]int{"*/*": http.StatusTooManyRequests, "text/event-stream": http.StatusOK} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.URL+"/stream", nil)
			require.NoError(t, err)
			r.Header.Set("Accept", accept)
			r.Header.Set("Cache-Control", "no-cache")
			response, err := c.client.Do(r)
			require.NoError(t, err)
			response.Body.Close()
			assert.Equal(t, status, response.StatusCode, accept)
		}
	})
}

// Disconnect and Drain end streams of Datastar's SDK, which watch the request's context.
func TestDatastarEnds(t *testing.T) {
	for name, cause := range map[string]error{"Disconnect": middleware.ErrDisconnected, "Drain": middleware.ErrDraining} {
		t.Run(name, func(t *testing.T) {
			sessions := &middleware.Sessions{Key: func(*http.Request) string { return "ann" }, Logger: silent}
			drain := &middleware.Drain{Spread: -1, Logger: silent}
			causes := make(chan error, 1)
			w := through(t, drain.Handler(sessions.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s := datastar.NewSSE(w, r)
				tick := time.NewTicker(soon)
				defer tick.Stop()
				for !s.IsClosed() {
					_ = s.PatchElements(`<p id="clock">now</p>`)
					<-tick.C
				}
				causes <- context.Cause(s.Context())
			}))))
			client, done := ownTransport()
			defer done()
			response, err := client.Get(w.url)
			require.NoError(t, err)
			defer response.Body.Close()
			events := sse.NewReader(response.Body)
			_, err = events.Read()
			require.NoError(t, err)
			if name == "Drain" {
				require.NoError(t, drain.Shutdown(t.Context()))
			} else {
				require.Equal(t, 1, sessions.Disconnect("ann", 0, ""))
			}
			require.ErrorIs(t, next(t, causes), cause)
			for _, err := range events.All() {
				require.NoError(t, err)
			}
		})
	}
}
