package ws_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/ws"
)

// denying returns a Handler that refuses each client with a status.
func denying(status int, detach bool) *ws.Handler {
	return &ws.Handler{Broadcaster: &broadcast.Hub{}, Detach: detach, Logger: silent, Grant: func(*http.Request) (*fanfare.Grant, error) {
		return nil, &fanfare.Refusal{Status: status}
	}}
}

// A browser does not show a script the status of a handshake. A client with refusals=close
// gets what is final as a close code instead, and every other refusal as a status.
func TestRefusalsByAClose(t *testing.T) {
	for _, test := range []struct {
		name, target, origin string
		grant                func(*http.Request) (*fanfare.Grant, error)
		status               int // 101: closed with code and reason
		code                 ws.StatusCode
		reason               string
	}{
		{name: "401", target: "/?refusals=close", grant: denying(401, false).Grant, status: 101, code: 3000, reason: "unauthorized"},
		{name: "403", target: "/?refusals=close", grant: denying(403, false).Grant, status: 101, code: 3003, reason: "forbidden"},
		{name: "no status", target: "/?a=1&refusals=close", grant: denying(0, false).Grant, status: 101, code: 3003, reason: "forbidden"},
		{name: "no topics", target: "/?refusals=close", grant: func(*http.Request) (*fanfare.Grant, error) { return &fanfare.Grant{}, nil },
			status: 101, code: 3003, reason: "forbidden"},
		{name: "expired already", target: "/?refusals=close", grant: func(*http.Request) (*fanfare.Grant, error) {
			return &fanfare.Grant{Topics: []string{"a"}, Expires: time.Now()}, nil
		}, status: 101, code: 3000, reason: "unauthorized"},
		{name: "wrapped", target: "/?refusals=close", grant: func(*http.Request) (*fanfare.Grant, error) {
			return nil, fmt.Errorf("no session: %w", &fanfare.Refusal{Status: 401})
		}, status: 101, code: 3000, reason: "unauthorized"},
		{name: "not asked for", target: "/", grant: denying(401, false).Grant, status: 401},
		{name: "another value", target: "/?refusals=1", grant: denying(403, false).Grant, status: 403},
		{name: "404", target: "/?refusals=close", grant: denying(404, false).Grant, status: 404},
		{name: "204", target: "/?refusals=close", grant: denying(204, false).Grant, status: 204},
		{name: "429", target: "/?refusals=close", grant: denying(429, false).Grant, status: 429},
		{name: "an error", target: "/?refusals=close", grant: func(*http.Request) (*fanfare.Grant, error) { return nil, context.Canceled }, status: 500},
		{name: "a foreign page", target: "/?refusals=close", origin: "https://evil.example", grant: denying(401, false).Grant, status: 403},
	} {
		for _, detach := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, detached %v", test.name, detach), func(t *testing.T) {
				hub := &broadcast.Hub{}
				answered := false
				h := &ws.Handler{Broadcaster: hub, Detach: detach, Logger: silent, Grant: test.grant, Options: ws.Options{Subprotocols: []string{"chat"}},
					ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) { answered = true; w.WriteHeader(test.status) }}
				serve(t, h, func(t *testing.T, n *network) {
					o := &ws.DialOptions{HTTPClient: n.client, Header: http.Header{}, Options: ws.Options{Subprotocols: []string{"chat"}}}
					if test.origin != "" {
						o.Header.Set("Origin", test.origin)
					}
					c, err := ws.Dial(t.Context(), "ws://memory"+test.target, o)
					if test.status != 101 {
						var refused *ws.HandshakeError
						require.ErrorAs(t, err, &refused)
						require.Equal(t, test.status, refused.Status)
						require.True(t, answered)
						return
					}
					require.NoError(t, err)
					require.Equal(t, "chat", c.Subprotocol(), "a browser fails a handshake without it")
					began := time.Now()
					_, _, err = c.Read(t.Context())
					var closed *ws.CloseError
					require.ErrorAs(t, err, &closed)
					require.Equal(t, ws.CloseError{Code: test.code, Reason: test.reason}, *closed)
					synctest.Wait()
					require.Zero(t, time.Since(began))
					require.False(t, answered, "the client has been answered")
					status := map[ws.StatusCode]int{3000: 401, 3003: 403}[test.code]
					require.Equal(t, map[int]uint64{status: 1}, h.Stats().Refused)
					require.Zero(t, h.Stats().Opened)
					require.Zero(t, hub.Stats().Subscriptions)
				})
			})
		}
	}
}

// A client that is refused by a close frame counts until its connection has ended, which
// takes 2 s at most, whatever it sends meanwhile; a Drain does not wait for it any longer
// than for a stream.
func TestRefusalByACloseCountsAndEnds(t *testing.T) {
	for _, detach := range []bool{false, true} {
		for _, bypass := range []bool{false, true} {
			t.Run(fmt.Sprintf("detached %v, Bypass %v", detach, bypass), func(t *testing.T) {
				limit, drain := &middleware.Limit{Total: 1, Logger: silent}, &middleware.Drain{Spread: -1, Logger: silent}
				h := denying(403, detach)
				h.Options.MaxMessage = -1
				inner := http.Handler(h)
				if bypass {
					inner = middleware.Bypass(inner)
				}
				serve(t, drain.Handler(limit.Handler(inner)), func(t *testing.T, n *network) {
					status := func() int {
						_, err := ws.Dial(t.Context(), "ws://memory/", &ws.DialOptions{HTTPClient: n.client})
						var refused *ws.HandshakeError
						require.ErrorAs(t, err, &refused)
						return refused.Status
					}
					p := n.raw("/?refusals=close", "")
					require.Equal(t, frame{fin | clos, closing(3003, "forbidden")}, p.next())
					synctest.Wait()
					require.Equal(t, 503, status(), "the place is taken while it closes")
					p.write(masked(fin|clos, closing(3003, "")))
					p.ends()
					synctest.Wait()
					require.Equal(t, 403, status(), "and then free")

					p = n.raw("/?refusals=close", "") // never answers, and goes on to send
					require.Equal(t, byte(fin|clos), p.next().first)
					began := time.Now()
					for range 100 {
						p.write(masked(text, string(make([]byte, 2000)))) // of one message
					}
					p.ends()
					require.Equal(t, 2*time.Second, time.Since(began))
					synctest.Wait()
					require.Equal(t, 403, status())

					n.raw("/?refusals=close", "")
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					require.ErrorIs(t, drain.Shutdown(ctx), context.DeadlineExceeded)
					synctest.Wait()
					require.Equal(t, 503, status(), "the server drains")
				})
			})
		}
	}
}

// A Client gets the refusal as the last error: another attempt would end the same way. A
// Grant that expires lets it come back.
func TestClientTakesARefusalByACloseAsFinal(t *testing.T) {
	for _, status := range []int{401, 403} {
		serve(t, denying(status, false), func(t *testing.T, n *network) {
			c := &ws.Client{URL: "ws://memory/?refusals=close", Dial: ws.DialOptions{HTTPClient: n.client}, Logger: silent}
			var last error
			for _, err := range c.Messages(t.Context()) {
				last = err
			}
			require.Equal(t, map[int]ws.StatusCode{401: 3000, 403: 3003}[status], ws.CloseStatus(last))
		})
	}
	attempts := 0
	hub := &broadcast.Hub{}
	serve(t, &ws.Handler{Broadcaster: hub, Logger: silent, Grant: func(*http.Request) (*fanfare.Grant, error) {
		if attempts++; attempts == 3 {
			return nil, &fanfare.Refusal{Status: 401}
		}
		return &fanfare.Grant{Topics: []string{"a"}, Expires: time.Now().Add(time.Minute)}, nil
	}}, func(t *testing.T, n *network) {
		c := &ws.Client{URL: "ws://memory/?refusals=close", Dial: ws.DialOptions{HTTPClient: n.client}, Logger: silent}
		for _, err := range c.Messages(t.Context()) {
			require.Equal(t, ws.StatusUnauthorized, ws.CloseStatus(err))
		}
		require.Equal(t, 3, attempts)
	})
}

// A stream whose Grant expires is closed with 3000 and the reason expired, and not with that
// of a refusal.
func TestGrantThatExpiresSaysSo(t *testing.T) {
	for _, detach := range []bool{false, true} {
		serve(t, &ws.Handler{Broadcaster: &broadcast.Hub{}, Detach: detach, Logger: silent, Grant: func(*http.Request) (*fanfare.Grant, error) {
			return &fanfare.Grant{Topics: []string{"a"}, Expires: time.Now().Add(time.Second)}, nil
		}}, func(t *testing.T, n *network) {
			p := n.raw("/?refusals=close", "")
			p.next()
			require.Equal(t, "expired", p.closes(3000))
		})
	}
}
