package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/leak"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

func TestMain(m *testing.M) { leak.Main(m) }

// seen is a message as a client of either transport gets it.
type seen struct {
	ID string
	said
}

// client is one side of the chat, over HTTP as a browser would be.
type client struct {
	t   *testing.T
	url string
	ctx context.Context
}

// listen opens an event stream behind a position, and returns what it says.
func (c client) listen(after string) (next func() seen, close func()) {
	ctx, cancel := context.WithCancel(c.ctx)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+"/events", nil)
	require.NoError(c.t, err)
	r.Header.Set("Last-Event-ID", after)
	response, err := http.DefaultClient.Do(r)
	require.NoError(c.t, err)
	require.Equal(c.t, http.StatusOK, response.StatusCode)
	reader := sse.NewReader(response.Body)
	return func() seen {
			e, err := reader.Read()
			require.NoError(c.t, err)
			require.Equal(c.t, "chat", e.Type, "data: %s", e.Data)
			return c.decode(e.ID, e.Data)
		}, func() {
			cancel()
			response.Body.Close()
		}
}

// dial opens a WebSocket behind a position.
func (c client) dial(after string) (conn *ws.Conn, next func() seen) {
	conn, err := ws.Dial(c.ctx, c.url+"/ws?lastEventId="+after, nil)
	require.NoError(c.t, err)
	return conn, func() seen {
		for {
			var m struct{ ID, Topic, Data, Ready, Gap string }
			require.NoError(c.t, conn.ReadJSON(c.ctx, &m))
			require.Empty(c.t, m.Gap)
			if m.Topic != "" {
				return c.decode(m.ID, []byte(m.Data))
			}
		}
	}
}

func (c client) decode(id string, data []byte) seen {
	m := seen{ID: id}
	require.NoError(c.t, json.Unmarshal(data, &m.said))
	return m
}

func (c client) post(body string) int {
	response, err := http.Post(c.url+"/messages", "application/json", strings.NewReader(body))
	require.NoError(c.t, err)
	response.Body.Close()
	return response.StatusCode
}

func newClient(t *testing.T) client {
	server := httptest.NewServer(newChat(new(broadcast.Hub)))
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	t.Cleanup(server.Close)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return client{t, server.URL + "/rooms/test", ctx}
}

func TestBothSidesGetEveryMessageAndSurviveACut(t *testing.T) {
	c := newClient(t)
	event, cut := c.listen("")
	conn, frame := c.dial("")

	require.NoError(t, conn.WriteJSON(c.ctx, map[string]string{"name": "Ann", "text": "over the socket"}))
	require.Equal(t, http.StatusNoContent, c.post(`{"name":"Bob","text":"by post"}`))
	first, second := event(), event()
	require.ElementsMatch(t, []string{"over the socket", "by post"}, []string{first.Text, second.Text})
	require.Equal(t, []seen{first, second}, []seen{frame(), frame()}, "the same messages with the same IDs on both")

	// Both are cut, and come back on the other transport.
	cut()
	require.NoError(t, conn.Close(ws.StatusNormalClosure, ""))
	for i := range 5 {
		require.Equal(t, http.StatusNoContent, c.post(fmt.Sprintf(`{"name":"Bob","text":"missed %d"}`, i)))
	}
	event, cut = c.listen(second.ID)
	defer cut()
	conn, frame = c.dial(second.ID)
	defer conn.CloseNow()
	for i := range 5 {
		m := event()
		require.Equal(t, fmt.Sprintf("missed %d", i), m.Text)
		require.Equal(t, m, frame())
	}
	require.Equal(t, http.StatusNoContent, c.post(`{"name":"Bob","text":"and live again"}`))
	require.Equal(t, "and live again", event().Text)
	require.Equal(t, "and live again", frame().Text)
}

func TestBadMessages(t *testing.T) {
	for _, test := range []struct{ name, body string }{
		{"no JSON", `hello`},
		{"no text", `{"name":"Ann"}`},
		{"no name", `{"text":"hi"}`},
		{"a text too long", `{"name":"Ann","text":"` + strings.Repeat("x", 2001) + `"}`},
		{"a body too large", `{"name":"Ann","text":"` + strings.Repeat("x", 20_000) + `"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newClient(t)
			require.Equal(t, http.StatusBadRequest, c.post(test.body))
			conn, _ := c.dial("")
			require.NoError(t, conn.Write(c.ctx, ws.Text, []byte(test.body)))
			for {
				if _, _, err := conn.Read(c.ctx); err != nil {
					require.Contains(t, []ws.StatusCode{ws.StatusPolicyViolation, ws.StatusMessageTooBig}, ws.CloseStatus(err), "%v", err)
					break
				}
			}
		})
	}
}

func TestPageAndFiles(t *testing.T) {
	c := newClient(t)
	for _, path := range []string{"/", "/rooms/lobby", "/static/app.js", "/static/style.css"} {
		response, err := http.Get(strings.TrimSuffix(c.url, "/rooms/test") + path)
		require.NoError(t, err)
		response.Body.Close()
		require.Equal(t, http.StatusOK, response.StatusCode, path)
	}
}
