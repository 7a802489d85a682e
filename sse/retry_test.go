package sse_test

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

var heartbeatComment = regexp.MustCompile(`(?m)^: heartbeat [0-9.]+\n`)

var retryField = regexp.MustCompile(`(?m)^retry: (\d+)$`)

// nominal returns the beginning of a stream with the reconnection time that it is spread
// around, and without the interval of its heartbeats, which has tests of its own: so that
// tests can compare it as it is.
func nominal(sent string) string {
	return nominalRetry(heartbeatComment.ReplaceAllString(sent, ""))
}

// nominalRetry returns the beginning of a stream with the reconnection time that it is
// spread around.
func nominalRetry(sent string) string {
	return retryField.ReplaceAllStringFunc(sent, func(field string) string {
		n, _ := strconv.Atoi(field[len("retry: "):])
		for _, retry := range []int{3000, 1500, 60_000} {
			if n >= retry*3/4 && n <= retry*5/4 {
				return fmt.Sprint("retry: ", retry)
			}
		}
		return field
	})
}

// Streams that begin together are sent different times to reconnect after, within 25 % of
// Options.Retry: clients that are cut together do not come back together.
func TestRetryIsSpread(t *testing.T) {
	writer := func(o sse.Options) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s, err := sse.NewWriter(w, r, &o)
			require.NoError(t, err)
			require.NoError(t, s.Close())
		})
	}
	handler := func(o sse.Options) http.Handler {
		return &sse.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"a"}, Options: o, Logger: silent}
	}
	for _, kind := range []struct {
		name string
		of   func(sse.Options) http.Handler
	}{{"Handler", handler}, {"Writer", writer}} {
		for _, test := range []struct {
			option            time.Duration
			shortest, longest int // milliseconds
		}{
			{0, 2250, 3750},
			{time.Minute, 45_000, 75_000},
			{4 * time.Millisecond, 3, 5},
			{1, 1, 1},
			{math.MaxInt64, math.MaxInt64 / 4 * 3 / 1_000_000, math.MaxInt64 / 1_000_000},
		} {
			t.Run(fmt.Sprint(kind.name, " ", test.option), func(t *testing.T) {
				h, seen, below, above := kind.of(sse.Options{Retry: test.option}), map[int]bool{}, 0, 0
				for range 200 {
					w := httptest.NewRecorder()
					h.ServeHTTP(w, httptest.NewRequest("GET", "/?poll=1&lastEventId=1f-1", nil)) // gets a gap, and ends
					field := retryField.FindStringSubmatch(w.Body.String())
					require.NotNil(t, field, w.Body)
					n, err := strconv.Atoi(field[1])
					require.NoError(t, err)
					require.GreaterOrEqual(t, n, test.shortest)
					require.LessOrEqual(t, n, test.longest)
					seen[n] = true
					middle := test.shortest/2 + test.longest/2
					if n < middle {
						below++
					} else {
						above++
					}
				}
				if span := test.longest - test.shortest; span > 1000 {
					require.Greater(t, len(seen), 100)
					require.Greater(t, below, 50)
					require.Greater(t, above, 50)
				}
			})
		}
	}
}
