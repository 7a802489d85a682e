package ws_test

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/ws"
	"github.com/fanfare-go/fanfare/ws/wstest"
)

// granting returns a Handler whose streams expire at the first of these times after they begin, and
// whose tokens set the others in turn; 0: never.
func granting(o ws.Options, detach bool, lives ...time.Duration) *ws.Handler {
	return &ws.Handler{Broadcaster: new(broadcast.Hub), Logger: silent, Options: o, Detach: detach, Grant: func(*http.Request) (*fanfare.Grant, error) {
		left := lives
		next := func() (expires time.Time) {
			if left[0] != 0 {
				expires = time.Now().Add(left[0])
			}
			left = left[1:]
			return expires
		}
		return &fanfare.Grant{Topics: []string{"a"}, Expires: next(), Renew: func(string) (time.Time, error) { return next(), nil }}, nil
	}}
}

// lives reads until the stream ends, and returns after which time; 0: not
// within hours.
func lives(t *testing.T, c *ws.Conn) time.Duration {
	t.Helper()
	began, closed := time.Now(), make(chan error, 1)
	go func() {
		for {
			if _, _, err := c.Read(t.Context()); err != nil {
				closed <- err
				return
			}
		}
	}()
	select {
	case err := <-closed:
		require.Equal(t, ws.StatusUnauthorized, ws.CloseStatus(err))
		return time.Since(began)
	case <-time.After(4 * time.Hour):
		require.NoError(t, c.CloseNow())
		<-closed
		return 0
	}
}

// inEachForm runs a test for attached and detached streams, with pings and without.
func inEachForm(t *testing.T, test func(*testing.T, ws.Options, bool)) {
	for _, detach := range []bool{false, true} {
		for _, interval := range []time.Duration{0, -1, math.MaxInt64} {
			t.Run(fmt.Sprintf("detach %v, PingInterval %v", detach, interval), func(t *testing.T) {
				test(t, ws.Options{PingInterval: interval}, detach)
			})
		}
	}
}

// A stream ends at the time that its latest token has set, whatever was set before.
func TestRenewedStreamEndsOnTime(t *testing.T) {
	const s = time.Second
	inEachForm(t, func(t *testing.T, o ws.Options, detach bool) {
		for _, times := range [][]time.Duration{{0, 10 * s, 12 * s}, {60 * s, 10 * s, 12 * s}, {10 * s, 12 * s}, {10 * s, 0, 12 * s},
			{0, 10 * s, 100 * s, 20 * s, 50 * s}, {0, 10 * s, 0}, {10 * s, 5 * s, 0}, {time.Hour, 2 * time.Hour, 3 * time.Hour, 1}} {
			synctest.Test(t, func(t *testing.T) {
				c := wstest.Dial(t, granting(o, detach, times...), httptest.NewRequest("GET", "/", nil))
				readText(t, c)
				last := times[len(times)-1]
				for _, life := range times[1:] {
					require.NoError(t, c.Write(t.Context(), ws.Text, []byte(`{"token":"x"}`)))
					if life != 1 {
						require.Contains(t, readText(t, c), "renewed")
					}
				}
				require.Equal(t, last, lives(t, c), "%v", times)
			})
		}
	})
}

// A stream that expires far in the future goes on, also where a time.Duration does not reach so
// far. A page's timers do not reach so far either: the wire has no expires then.
func TestExpiresFarInTheFuture(t *testing.T) {
	inEachForm(t, func(t *testing.T, o ws.Options, detach bool) {
		for _, expires := range []time.Time{time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), time.Unix(1<<40, 0), time.Unix(1<<33, 0)} {
			for _, renewed := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					h := granting(o, detach, time.Minute)
					h.Grant = func(*http.Request) (*fanfare.Grant, error) {
						g := &fanfare.Grant{Topics: []string{"a"}, Expires: expires, Renew: func(string) (time.Time, error) { return expires, nil }}
						if renewed {
							g.Expires = time.Now().Add(time.Minute)
						}
						return g, nil
					}
					readText(t, wstest.Dial(t, h, httptest.NewRequest("GET", "/", nil))) // the handler's clock begins
					time.Sleep(time.Second)
					c := wstest.Dial(t, h, httptest.NewRequest("GET", "/", nil))
					notice := readText(t, c)
					if renewed {
						require.NoError(t, c.Write(t.Context(), ws.Text, []byte(`{"token":"x"}`)))
						notice = readText(t, c)
					}
					require.NotContains(t, notice, "expires")
					require.Zero(t, lives(t, c))
				})
			}
		}
	})
}

// The wire has expires up to what setTimeout of a browser takes.
func TestExpiresOnTheWire(t *testing.T) {
	const most = (1<<31 - 1) * time.Millisecond
	for life, want := range map[time.Duration]string{most: `"expires":2147483.647}`, most + time.Millisecond: `"heartbeat":30}`} {
		synctest.Test(t, func(t *testing.T) {
			c := wstest.Dial(t, granting(ws.Options{}, false, life), httptest.NewRequest("GET", "/", nil))
			require.Contains(t, readText(t, c), want)
		})
	}
}
