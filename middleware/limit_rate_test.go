package middleware_test

import (
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse/ssetest"
	"github.com/fanfare-go/fanfare/ws"
)

// answered is the handler of requests that end at once.
var answered = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})

// statuses sends n requests from an address, and returns how they were answered.
func statuses(h http.Handler, addr string, n int) (all []int) {
	for range n {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, from(addr))
		all = append(all, w.Code)
	}
	return all
}

// Each key may open Rate streams a second, and as many at once, at least one.
func TestLimitRate(t *testing.T) {
	const a, b = "192.0.2.1:1", "192.0.2.2:1"
	for _, test := range []struct {
		name string
		rate float64
		run  func(t *testing.T, h http.Handler)
	}{
		{"zero is no limit", 0, func(t *testing.T, h http.Handler) {
			require.NotContains(t, statuses(h, a, 1000), 429)
		}},
		{"a burst", 3, func(t *testing.T, h http.Handler) {
			require.Equal(t, []int{200, 200, 200, 429, 429}, statuses(h, a, 5))
			time.Sleep(time.Second/3 + time.Millisecond)
			require.Equal(t, []int{200, 429}, statuses(h, a, 2))
			time.Sleep(time.Hour)
			require.Equal(t, []int{200, 200, 200, 429}, statuses(h, a, 4), "what is not used is not saved up")
		}},
		{"less than one a second", 0.1, func(t *testing.T, h http.Handler) {
			require.Equal(t, []int{200, 429}, statuses(h, a, 2))
			time.Sleep(9 * time.Second)
			require.Equal(t, []int{429}, statuses(h, a, 1))
			time.Sleep(time.Second + time.Millisecond)
			require.Equal(t, []int{200, 429}, statuses(h, a, 2))
		}},
		{"each key for itself", 1, func(t *testing.T, h http.Handler) {
			require.Equal(t, []int{200, 429}, statuses(h, a, 2))
			require.Equal(t, []int{200, 429}, statuses(h, b, 2))
		}},
		{"refused requests do not count", 1, func(t *testing.T, h http.Handler) {
			require.Equal(t, 200, statuses(h, a, 1)[0])
			accepted := 0
			for range 100 {
				time.Sleep(100 * time.Millisecond)
				if statuses(h, a, 1)[0] == 200 {
					accepted++
				}
			}
			require.InDelta(t, 10, accepted, 1)
		}},
		{"over a long time", 2, func(t *testing.T, h http.Handler) {
			accepted := 0
			for range 1000 {
				if statuses(h, a, 1)[0] == 200 {
					accepted++
				}
				time.Sleep(30 * time.Millisecond)
			}
			require.InDelta(t, 60, accepted, 3, "in 30 s")
		}},
		{"more than the clock can tell apart", math.Inf(1), func(t *testing.T, h http.Handler) {
			require.NotContains(t, statuses(h, a, 1000), 429)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				test.run(t, (&middleware.Limit{Rate: test.rate, Logger: silent}).Handler(answered))
			})
		})
	}
}

// A stream counts when it is opened. That it has ended makes no room for another.
func TestLimitRateCountsWhatIsOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		limit := &middleware.Limit{Rate: 1, Logger: silent}
		for _, h := range []http.Handler{
			limit.Handler(news(&hub)),
			middleware.Bypass(limit.Handler(news(&hub))),
			limit.Handler(&ws.Handler{Broadcaster: &hub, Topics: []string{"news"}, Logger: silent}),
		} {
			s := ssetest.Connect(t, h, get("/"))
			s.Close()
			synctest.Wait()
			refused := ssetest.Connect(t, h, get("/"))
			require.Equal(t, 429, refused.Status())
			require.Equal(t, "1", refused.Header().Get("Retry-After"))
			time.Sleep(2 * time.Second)
		}
	})
}

// A request that another limit refuses does not count.
func TestLimitRateCountsAcceptedRequestsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		h := (&middleware.Limit{PerKey: 1, Rate: 2, Logger: silent}).Handler(news(&hub))
		s := ssetest.Connect(t, h, get("/"))
		for range 3 {
			require.Equal(t, 429, ssetest.Connect(t, h, get("/")).Status())
		}
		s.Close()
		synctest.Wait()
		require.Equal(t, 200, ssetest.Connect(t, h, get("/")).Status())
	})
}

// Requests without a key have no rate.
func TestLimitRateWithoutAKey(t *testing.T) {
	h := (&middleware.Limit{Rate: 1, Key: func(*http.Request) string { return "" }, Logger: silent}).Handler(answered)
	require.NotContains(t, statuses(h, "192.0.2.1:1", 100), 429)
}

// A refused client is sent when it may come back. An EventSource is sent a stream that ends.
func TestLimitRateRefuses(t *testing.T) {
	for _, test := range []struct {
		name        string
		rate        float64
		eventSource bool
		status      int
		retryAfter  string // "": it is random
	}{
		{"soon", 100, false, 429, "1"},
		{"later", 0.05, false, 429, "20"},
		{"once in a lifetime", math.SmallestNonzeroFloat64, false, 429, "86400"},
		{"an EventSource", 0.05, true, 200, "20"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log strings.Builder
				limit := &middleware.Limit{Rate: test.rate, Logger: slog.New(slog.NewTextHandler(&log, nil)),
					Key: func(*http.Request) string { return "secret" }}
				h := limit.Handler(answered)
				statuses(h, "", int(max(1, test.rate)))
				r := get("/news?token=secret")
				if test.eventSource {
					r.Header = http.Header{"Accept": {"text/event-stream"}, "Cache-Control": {"no-cache"}}
				}
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				require.Equal(t, test.status, w.Code)
				require.Equal(t, test.retryAfter, w.Header().Get("Retry-After"))
				require.Equal(t, test.eventSource, strings.HasPrefix(w.Body.String(), "retry: "))
				require.Equal(t, 1, strings.Count(log.String(), "\n"), "logged once")
				require.Contains(t, log.String(), "status=429")
				require.Contains(t, log.String(), "Limit.Rate")
				require.NotContains(t, log.String(), "secret")
			})
		})
	}
}

// A Rate that is no number of streams is an error that names the field.
func TestLimitNamesAnInvalidRate(t *testing.T) {
	for rate, want := range map[float64]string{-1: "Limit.Rate is -1", -0.5: "Limit.Rate is -0.5", math.NaN(): "Limit.Rate is NaN"} {
		var log strings.Builder
		limit := &middleware.Limit{Rate: rate, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		assert.Equal(t, []int{500}, statuses(limit.Handler(answered), "192.0.2.1:1", 1))
		assert.Contains(t, log.String(), want)
	}
}

// However many keys there are, and however long, they take a few megabytes. A key that has
// used its streams is known among tens of thousands of others.
func TestLimitRateTakesLittleMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		long := strings.Repeat("x", 2000)
		limit := &middleware.Limit{Rate: 0.001, Logger: silent, Key: func(r *http.Request) string { return r.URL.Path + long }}
		h := limit.Handler(answered)
		open := func(key string) int {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, get("/"+key))
			return w.Code
		}
		before := heap()
		for i := range 200_000 {
			if open(fmt.Sprint(i)) != 200 {
				t.Fatalf("key %d is refused", i)
			}
			if i == 30_000 {
				require.Equal(t, 429, open("0"))
			}
		}
		after := heap()
		t.Logf("%d KiB for 200,000 keys", (int64(after)-int64(before))>>10)
		require.Less(t, after, before+4<<20)
		require.Equal(t, 429, open("199999"))
		runtime.KeepAlive(limit)
	})
}

// heap returns how many bytes are in use.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
