package middleware_test

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/sse/ssetest"
	"github.com/fanfare-go/fanfare/ws"
	"github.com/fanfare-go/fanfare/ws/wstest"
)

// Disconnect ends all streams of a key, of each kind, and no others.
func TestDisconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		sessions := &middleware.Sessions{Key: func(r *http.Request) string { return r.FormValue("user") }, Logger: silent}
		revoked := false
		grant := func(*http.Request) (*fanfare.Grant, error) {
			if revoked {
				return nil, &fanfare.Refusal{Status: 403}
			}
			return &fanfare.Grant{Topics: []string{"news"}}, nil
		}
		events := sessions.Handler(&sse.Handler{Broadcaster: &hub, Grant: grant, Logger: silent})
		socket := sessions.Handler(&ws.Handler{Broadcaster: &hub, Grant: grant, Logger: silent, Encode: ws.Raw})
		upgrade := sessions.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if c, err := ws.Upgrade(w, r, nil); err == nil {
				c.CloseRead()
				<-c.Context().Done()
			}
		}))
		ended := make(chan error, 1)
		tokens := sessions.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s, err := sse.NewWriter(w, r, nil)
			if assert.NoError(t, err) {
				defer s.Close()
				<-s.Context().Done()
				ended <- context.Cause(s.Context())
			}
		}))
		s, other := ssetest.Connect(t, events, get("/?user=ann")), ssetest.Connect(t, events, get("/?user=bob"))
		writer := ssetest.Connect(t, tokens, get("/?user=ann"))
		c, u := wstest.Dial(t, socket, get("/?user=ann")), wstest.Dial(t, upgrade, get("/?user=ann"))
		synctest.Wait()

		revoked = true
		require.Equal(t, 4, sessions.Disconnect("ann", 4001, "your rights were revoked"))
		require.Equal(t, 0, sessions.Disconnect("nobody", 0, ""))
		require.NoError(t, s.End())
		require.NoError(t, writer.End())
		require.ErrorContains(t, <-ended, "the server has ended the stream")
		for _, c := range []*ws.Conn{c, u} {
			_, _, err := c.Read(t.Context())
			var closed *ws.CloseError
			require.ErrorAs(t, err, &closed)
			require.Equal(t, ws.CloseError{Code: 4001, Reason: "your rights were revoked"}, *closed)
		}
		s.Reconnect()
		require.Equal(t, 403, s.Status(), "it comes back, and Grant refuses it")
		publish(t, &hub, "to the others")
		require.Equal(t, "to the others", string(other.Next().Data))
		synctest.Wait()
		require.Equal(t, 1, sessions.Disconnect("bob", 0, ""))
	})
}

// Disconnect also ends a stream that is still being granted.
func TestDisconnectDuringGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		sessions := &middleware.Sessions{Key: func(*http.Request) string { return "ann" }, Logger: silent}
		h := sessions.Handler(&ws.Handler{Broadcaster: &hub, Logger: silent, Grant: func(*http.Request) (*fanfare.Grant, error) {
			time.Sleep(time.Second)
			return &fanfare.Grant{Topics: []string{"news"}}, nil
		}})
		time.AfterFunc(500*time.Millisecond, func() { assert.Equal(t, 1, sessions.Disconnect("ann", 0, "")) })
		c := wstest.Dial(t, h, get("/"))
		for {
			if _, _, err := c.Read(t.Context()); err != nil {
				require.Equal(t, ws.StatusForbidden, ws.CloseStatus(err))
				return
			}
		}
	})
}

// Disconnect sends any code that a close frame may carry, those of RFC 6455 included.
func TestDisconnectWithACodeOfTheStandard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		sessions := &middleware.Sessions{Key: func(*http.Request) string { return "ann" }, Logger: silent}
		c := wstest.Dial(t, sessions.Handler(&ws.Handler{Broadcaster: &hub, Topics: []string{"news"}, Logger: silent}), get("/"))
		_, _, err := c.Read(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, sessions.Disconnect("ann", 1008, "policy"))
		_, _, err = c.Read(t.Context())
		require.Equal(t, ws.StatusCode(1008), ws.CloseStatus(err))
	})
}
