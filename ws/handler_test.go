package ws_test

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/ws"
)

// Stats may be called before the fields are set, which are due before the first request.
func TestStatsComeBeforeTheFirstRequest(t *testing.T) {
	var h ws.Handler
	h.Stats()
	h.Broadcaster, h.Topics, h.Logger = &broadcast.Hub{}, []string{"a"}, silent
	serve(t, &h, func(t *testing.T, n *network) {
		_ = n.dial("/", ws.Options{}).CloseNow()
	})
}

// An EventSource that has come to a WebSocket by mistake gives up, also over HTTP/2.
func TestEventSourceIsRefusedPlainly(t *testing.T) {
	h := &ws.Handler{Broadcaster: &broadcast.Hub{}, Topics: []string{"a"}, Logger: silent}
	r := httptest.NewRequest("GET", "/", nil)
	r.ProtoMajor, r.ProtoMinor, r.Proto = 2, 0, "HTTP/2.0"
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Cache-Control", "no-cache")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	require.Equal(t, http.StatusNotImplemented, w.Code)
}

// A Handler that cannot work refuses each handshake, and logs what is wrong with it.
func TestUnusableHandlerAnswers500(t *testing.T) {
	for name, h := range map[string]*ws.Handler{
		"Handler.Broadcaster is nil":             {Topics: []string{"a"}},
		"Handler has neither Topics nor Grant":   {Broadcaster: &broadcast.Hub{}},
		"the topic is empty":                     {Broadcaster: &broadcast.Hub{}, Topics: []string{""}},
		"Handler.Grant returned neither a Grant": {Broadcaster: &broadcast.Hub{}, Grant: func(*http.Request) (*fanfare.Grant, error) { return nil, nil }},
	} {
		t.Run(name, func(t *testing.T) {
			log := &logbook{}
			h.Logger = log.logger()
			serve(t, h, func(t *testing.T, n *network) {
				_, err := ws.Dial(t.Context(), "ws://memory/", &ws.DialOptions{HTTPClient: n.client})
				var refused *ws.HandshakeError
				require.ErrorAs(t, err, &refused)
				require.Equal(t, 500, refused.Status)
				require.Equal(t, 1, log.count(name))
			})
		})
	}
	w := httptest.NewRecorder()
	(&ws.Handler{Logger: silent}).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	require.Equal(t, 426, w.Code)
}

// CONNECT opens WebSockets over HTTP/2 alone (RFC 8441).
func TestConnectOverHTTP1IsRefused(t *testing.T) {
	w := httptest.NewRecorder()
	r := httptest.NewRequest("CONNECT", "/", nil)
	for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket",
		"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
		r.Header.Set(name, value)
	}
	granted := false
	h := &ws.Handler{Broadcaster: &broadcast.Hub{}, Logger: silent, Grant: func(*http.Request) (*fanfare.Grant, error) {
		granted = true
		return &fanfare.Grant{Topics: []string{"a"}}, nil
	}}
	h.ServeHTTP(hijackable{w}, r)
	require.Equal(t, 405, w.Code)
	require.False(t, granted)
}

// The request is a handshake, and gets no stream.
func TestErrorHandlerGetsForeignOrigins(t *testing.T) {
	hub := &broadcast.Hub{}
	var called atomic.Bool
	serve(t, &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Logger: silent, ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
		called.Store(true)
		w.WriteHeader(403)
	}}, func(t *testing.T, n *network) {
		_, err := ws.Dial(t.Context(), "ws://memory/", &ws.DialOptions{HTTPClient: n.client, Header: http.Header{"Origin": {"https://evil"}}})
		require.Error(t, err)
		require.True(t, called.Load())
	})
}

// Hijack may be that of a middleware.
func TestPanicInHijackLeavesNoSubscription(t *testing.T) {
	hub := &broadcast.Hub{}
	h := &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Logger: silent}
	serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(panics{w}, r) }), func(t *testing.T, n *network) {
		_, err := ws.Dial(t.Context(), "ws://memory/", &ws.DialOptions{HTTPClient: n.client})
		require.Error(t, err)
		synctest.Wait()
		require.Zero(t, hub.Stats().Subscriptions)
	})
}

type hijackable struct{ http.ResponseWriter }

func (hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, errors.New("no") }

type panics struct{ http.ResponseWriter }

func (panics) Hijack() (net.Conn, *bufio.ReadWriter, error) { panic("not a Hijacker") }
