package ws_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/deafpeer"
	"github.com/fanfare-go/fanfare/ws"
)

// Over TCP, whether or not messages are sent to it.
func TestAPeerThatVanishesIsNoticed(t *testing.T) {
	const interval = 300 * time.Millisecond
	for _, test := range []struct {
		name    string
		options ws.Options
		talks   bool
		reason  string
	}{
		{"idle", ws.Options{PingInterval: interval, WriteTimeout: interval}, false, "it is silent from one ping to the next"},
		{"while messages are sent", ws.Options{PingInterval: interval, WriteTimeout: interval}, true, "what was sent is not acknowledged"},
	} {
		t.Run(test.name, func(t *testing.T) {
			hub := &broadcast.Hub{}
			ended := make(chan time.Time, 1)
			h := &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Options: test.options}
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				h.ServeHTTP(w, r)
				ended <- time.Now()
			}))
			defer server.Close()
			var conn net.Conn
			transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := new(net.Dialer).DialContext(ctx, network, addr)
				conn = c
				return c, err
			}}
			c, err := ws.Dial(t.Context(), server.URL, &ws.DialOptions{HTTPClient: &http.Client{Transport: transport}})
			require.NoError(t, err)
			defer c.CloseNow()
			_, _, err = c.Read(t.Context())
			require.NoError(t, err)

			deafpeer.Deafen(t, conn)
			began := time.Now()
			ticks := time.NewTicker(20 * time.Millisecond)
			defer ticks.Stop()
			for deadline := time.After(20 * time.Second); ; {
				select {
				case at := <-ended:
					t.Logf("found out after %v", at.Sub(began).Round(time.Millisecond))
					return
				case <-ticks.C:
					if test.talks {
						say(t, hub, "a", "is anybody there?")
					}
				case <-deadline:
					require.Fail(t, "the connection is still there")
				}
			}
		})
	}
}
