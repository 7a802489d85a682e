package middleware_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/ws"
	"github.com/fanfare-go/fanfare/ws/wstest"
)

// A WebSocket that has asked for it learns by a close frame that it is refused for good, in
// each layer: a page would not see a status.
func TestRefusedForGoodByACloseFrame(t *testing.T) {
	for name, mount := range layers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tickets, sessions := &middleware.Tickets{Logger: silent}, &middleware.Sessions{Key: user, Logger: silent}
				sockets := &ws.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"news"}, Logger: silent}
				require.NoError(t, sessions.Revoke(t.Context(), "ann", ""))
				began := time.Now()
				c := wstest.Dial(t, mount(sessions.Handler, sockets), get("/?refusals=close&user=ann"))
				require.Equal(t, ws.CloseError{Code: 3003, Reason: "forbidden"}, closeOf(t, c))

				r := get("/?refusals=close")
				r.Header.Set("Sec-WebSocket-Protocol", "chat.v1, ticket.x")
				c = wstest.Dial(t, mount(tickets.Handler, sockets), r)
				require.Equal(t, "chat.v1", c.Subprotocol())
				require.Equal(t, ws.CloseError{Code: 3000, Reason: "unauthorized"}, closeOf(t, c))
				synctest.Wait()
				require.Less(t, time.Since(began), time.Second)
			})
		})
	}
}

// Who has not asked for it, who sends no handshake, and a page of another origin get the
// status.
func TestRefusedForGoodWithAStatus(t *testing.T) {
	sessions := &middleware.Sessions{Key: user, Logger: silent}
	require.NoError(t, sessions.Revoke(t.Context(), "ann", ""))
	handshake := map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
	for name, test := range map[string]struct{ url, header, value string }{
		"not asked for":   {"/?user=ann", "X", ""},
		"another origin":  {"/?user=ann&refusals=close", "Origin", "https://evil.example"},
		"another version": {"/?user=ann&refusals=close", "Sec-WebSocket-Version", "8"},
		"no key":          {"/?user=ann&refusals=close", "Sec-WebSocket-Key", "x"},
		"no upgrade":      {"/?user=ann&refusals=close", "Upgrade", ""},
		"no hijacking":    {"/?user=ann&refusals=close", "X", ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := sessions.Handler(http.NotFoundHandler())
			if name == "no hijacking" {
				w, r := httptest.NewRecorder(), get(test.url)
				for name, value := range handshake {
					r.Header.Set(name, value)
				}
				h.ServeHTTP(w, r)
				require.Equal(t, 403, w.Code)
				return
			}
			server := httptest.NewServer(h)
			defer server.Close()
			r, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+test.url, nil)
			require.NoError(t, err)
			for name, value := range handshake {
				r.Header.Set(name, value)
			}
			r.Header.Set(test.header, test.value)
			response, err := server.Client().Do(r)
			require.NoError(t, err)
			response.Body.Close()
			require.Equal(t, 403, response.StatusCode)
		})
	}
}
