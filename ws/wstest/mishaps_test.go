package wstest_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/faults"
	"github.com/fanfare-go/fanfare/internal/failing"
	"github.com/fanfare-go/fanfare/ws"
	"github.com/fanfare-go/fanfare/ws/wstest"
)

// The test does not wait for the handler to notice by itself.
func TestEndOfAVanishedClient(t *testing.T) {
	for _, ping := range []time.Duration{0, time.Minute, -1} {
		t.Run(fmt.Sprint(ping), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := new(broadcast.Hub)
				said := failing.Said(t, func(t testing.TB) {
					var link faults.Link
					wstest.Dial(t, &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Logger: quietLog, Options: ws.Options{PingInterval: ping}},
						faults.Via(httptest.NewRequest("GET", "/", nil), &link))
					link.Vanish()
				})
				require.Empty(t, said)
			})
		})
	}
}

// In memory there is no TLS; the handler sees that of httptest.NewRequest.
func TestURLs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, u := range []string{"https://example.com/", "wss://example.com/", "ws://example.com/"} {
			said := failing.Said(t, func(t testing.TB) {
				wstest.Dial(t, &ws.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"a"}}, httptest.NewRequest("GET", u, nil))
			})
			require.Empty(t, said)
		}
	})
}

// The request's, not the URL's.
func TestHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var host string
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			host = r.Host
			c, err := ws.Upgrade(w, r, nil)
			if err == nil {
				c.Close(1000, "")
			}
		})
		r := httptest.NewRequest("GET", "http://a.example/", nil)
		r.Host = "b.example"
		wstest.Dial(t, h, r)
		require.Equal(t, "b.example", host)
	})
}

var quietLog = slog.New(slog.DiscardHandler)
