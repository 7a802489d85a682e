package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/leak"
	"github.com/fanfare-go/fanfare/sse/ssetest"
	"github.com/fanfare-go/fanfare/ws"
	"github.com/fanfare-go/fanfare/ws/wstest"
)

func TestMain(m *testing.M) { leak.Main(m) }

// agent is a browser with its cookie.
type agent struct {
	t       *testing.T
	service http.Handler
	cookie  *http.Cookie
	token   string // in place of the cookie, of an app
}

func (a *agent) request(method, path string) *http.Request {
	r := httptest.NewRequest(method, path, nil)
	if a.cookie != nil {
		r.AddCookie(a.cookie)
	}
	if a.token != "" {
		r.Header.Set("Authorization", "Bearer "+a.token)
	}
	return r
}

func (a *agent) call(method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	a.service.ServeHTTP(w, a.request(method, path))
	if cookies := w.Result().Cookies(); len(cookies) > 0 {
		a.cookie = cookies[0]
	}
	return w
}

// path returns the URL of a stream on a server, with a fresh ticket.
func (a *agent) path(server int, transport string) string {
	var answer struct{ Ticket string }
	w := a.call("POST", fmt.Sprintf("/%d/ticket", server))
	require.Equal(a.t, 200, w.Code)
	require.NoError(a.t, json.Unmarshal(w.Body.Bytes(), &answer))
	return fmt.Sprintf("/%d/%s?ticket=%s", server, transport, answer.Ticket)
}

// row is what the list of sessions says of one.
type row struct {
	ID, User string
	Mine     bool
	App      bool
	Streams  []int
}

func (a *agent) sessions() (rows []row) {
	w := a.call("GET", "/sessions")
	require.Equal(a.t, 200, w.Code)
	require.NoError(a.t, json.Unmarshal(w.Body.Bytes(), &rows))
	return rows
}

// A user with two browsers signs out one from the other: its streams end on all servers within
// a second, nothing lets it in again, and the other browser goes on and learns of it.
func TestSignOutFromAnotherBrowser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait() // until the Hubs have ended
		defer cancel()
		service := newService(ctx)
		laptop, phone, other := &agent{t: t, service: service}, &agent{t: t, service: service}, &agent{t: t, service: service}
		for who, a := range map[string]*agent{"ann": laptop, "bob": other} {
			require.Equal(t, 200, a.call("POST", "/sign-in?user="+who).Code)
		}
		time.Sleep(time.Second)
		require.Equal(t, 200, phone.call("POST", "/sign-in?user=ann").Code)

		var sockets []*ws.Conn
		var events []*ssetest.Stream
		for server := 1; server <= 3; server++ {
			sockets = append(sockets, wstest.Dial(t, service, phone.request("GET", phone.path(server, "ws"))))
			s := ssetest.Connect(t, service, phone.request("GET", phone.path(server, "events")))
			require.Equal(t, 200, s.Status())
			events = append(events, s)
		}
		stays := ssetest.Connect(t, service, laptop.request("GET", laptop.path(2, "events")))
		require.Equal(t, 200, stays.Status())
		rows := laptop.sessions()
		require.Len(t, rows, 2, "bob's are not ann's")
		require.Equal(t, []bool{true, false}, []bool{rows[0].Mine, rows[1].Mine})
		require.Equal(t, []int{2, 2, 2}, rows[1].Streams)
		require.NotContains(t, fmt.Sprint(rows), phone.cookie.Value, "the cookie stays a secret")

		unused := phone.path(3, "events")
		require.Equal(t, 404, other.call("POST", "/sessions/"+rows[1].ID+"/sign-out").Code, "bob cannot sign out ann")
		require.Equal(t, 200, laptop.call("POST", "/sessions/"+rows[1].ID+"/sign-out").Code)
		began := time.Now()
		for i := range 3 {
			for {
				if _, _, err := sockets[i].Read(t.Context()); err != nil {
					require.Equal(t, ws.StatusForbidden, ws.CloseStatus(err))
					break
				}
			}
			require.NoError(t, events[i].End())
		}
		require.Less(t, time.Since(began), time.Second)
		require.Equal(t, "sessions", stays.Next().Type)
		require.Len(t, laptop.sessions(), 1)
		require.Empty(t, phone.sessions())
		require.Equal(t, 401, phone.call("POST", "/1/ticket").Code)
		require.Equal(t, 403, ssetest.Connect(t, service, phone.request("GET", unused)).Status(), "with a ticket from before")
	})
}

// An app has a token in place of a cookie, and is signed out from a browser like another browser.
func TestSignOutOfAnApp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait() // until the Hubs have ended
		defer cancel()
		service := newService(ctx)
		laptop, phone := &agent{t: t, service: service}, &agent{t: t, service: service}
		require.Equal(t, 200, laptop.call("POST", "/sign-in?user=ann").Code)
		time.Sleep(time.Second)
		w := phone.call("POST", "/sign-in?user=ann&app=1")
		require.Equal(t, 200, w.Code)
		require.Empty(t, w.Result().Cookies())
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
		phone.token = w.Body.String()

		events := ssetest.Connect(t, service, httptest.NewRequest("GET", phone.path(2, "events"), nil))
		require.Equal(t, 200, events.Status())
		rows := laptop.sessions()
		require.Len(t, rows, 2)
		require.True(t, rows[1].App)
		require.False(t, rows[0].App)
		require.Equal(t, []int{0, 1, 0}, rows[1].Streams)
		require.Empty(t, (&agent{t: t, service: service, token: laptop.cookie.Value}).sessions(), "a cookie is no token")

		require.Equal(t, 200, laptop.call("POST", "/sessions/"+rows[1].ID+"/sign-out").Code)
		require.NoError(t, events.End())
		require.Equal(t, 401, phone.call("POST", "/2/ticket").Code)
	})
}

// The list of sessions names browsers as people do.
func TestBrowserName(t *testing.T) {
	for userAgent, name := range map[string]string{
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36":                                   "Chrome on Linux",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0":           "Edge on Windows",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:142.0) Gecko/20100101 Firefox/142.0":                                                    "Firefox on macOS",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1": "Safari on iOS",
		"Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36":     "Samsung Internet on Android",
		"curl/8.14.1": "A program on an unknown system",
	} {
		require.Equal(t, name, browserName(userAgent), userAgent)
	}
}

// The page and its script are served, and a name must be one.
func TestPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		a := &agent{t: t, service: newService(ctx)}
		require.Contains(t, a.call("GET", "/").Body.String(), "fanfare")
		require.Equal(t, 200, a.call("GET", "/fanfare.js").Code)
		require.Empty(t, a.sessions())
		for _, user := range []string{"", strings.Repeat("x", 41), "%ff", "a%0ab"} {
			require.Equal(t, 400, a.call("POST", "/sign-in?user="+user).Code)
		}
	})
}
