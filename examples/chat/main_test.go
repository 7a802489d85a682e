package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/leak"
	"github.com/fanfare-go/fanfare/sse/ssetest"
	"github.com/fanfare-go/fanfare/ws"
	"github.com/fanfare-go/fanfare/ws/wstest"
)

func TestMain(m *testing.M) { leak.Main(m) }

// received is a message as a client of either transport gets it.
type received struct {
	ID string
	message
}

func decode(t *testing.T, id string, data []byte) received {
	t.Helper()
	m := received{ID: id}
	require.NoError(t, json.Unmarshal(data, &m.message))
	return m
}

// fromStream returns the next message of an event stream.
func fromStream(t *testing.T, s *ssetest.Stream) received {
	t.Helper()
	e := s.Next()
	require.Equal(t, "chat", e.Type, "data: %s", e.Data)
	return decode(t, e.ID, e.Data)
}

// fromSocket returns the next message of a WebSocket.
func fromSocket(t *testing.T, c *ws.Conn) received {
	t.Helper()
	for {
		var m struct{ ID, Topic, Data, Ready, Gap string }
		require.NoError(t, c.ReadJSON(t.Context(), &m))
		require.Empty(t, m.Gap)
		if m.Topic != "" {
			return decode(t, m.ID, []byte(m.Data))
		}
	}
}

func get(path, after string) *http.Request {
	r := httptest.NewRequest("GET", path, nil)
	r.Header.Set("Last-Event-ID", after)
	return r
}

func post(chat http.Handler, body string) int {
	w := httptest.NewRecorder()
	chat.ServeHTTP(w, httptest.NewRequest("POST", "/rooms/test/messages", strings.NewReader(body)))
	return w.Code
}

func TestBothTransportsGetEveryMessageAndResumeAfterACut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chat := newChat(new(broadcast.Hub))
		events := ssetest.Connect(t, chat, get("/rooms/test/events", ""))
		socket := wstest.Dial(t, chat, get("/rooms/test/ws", ""))

		require.NoError(t, socket.WriteJSON(t.Context(), map[string]string{"name": "Ann", "text": "over the socket"}))
		require.Equal(t, http.StatusNoContent, post(chat, `{"name":"Bob","text":"by post"}`))
		first, second := fromStream(t, events), fromStream(t, events)
		require.ElementsMatch(t, []string{"over the socket", "by post"}, []string{first.Text, second.Text})
		require.Equal(t, []received{first, second}, []received{fromSocket(t, socket), fromSocket(t, socket)}, "the same messages with the same IDs on both")

		// Both are closed, and resume from the same ID.
		events.Close()
		require.NoError(t, socket.Close(ws.StatusNormalClosure, ""))
		for i := range 5 {
			require.Equal(t, http.StatusNoContent, post(chat, fmt.Sprintf(`{"name":"Bob","text":"missed %d"}`, i)))
		}
		events = ssetest.Connect(t, chat, get("/rooms/test/events", second.ID))
		socket = wstest.Dial(t, chat, get("/rooms/test/ws", second.ID))
		for i := range 5 {
			m := fromStream(t, events)
			require.Equal(t, fmt.Sprintf("missed %d", i), m.Text)
			require.Equal(t, m, fromSocket(t, socket))
		}
		require.Equal(t, http.StatusNoContent, post(chat, `{"name":"Bob","text":"and live again"}`))
		require.Equal(t, "and live again", fromStream(t, events).Text)
		require.Equal(t, "and live again", fromSocket(t, socket).Text)
	})
}

func TestInvalidMessagesAreRefused(t *testing.T) {
	for _, test := range []struct{ name, body string }{
		{"not JSON", `hello`},
		{"no text", `{"name":"Ann"}`},
		{"no name", `{"text":"hi"}`},
		{"a text too long", `{"name":"Ann","text":"` + strings.Repeat("x", 2001) + `"}`},
		{"a body too large", `{"name":"Ann","text":"` + strings.Repeat("x", 20_000) + `"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				chat := newChat(new(broadcast.Hub))
				require.Equal(t, http.StatusBadRequest, post(chat, test.body))
				c := wstest.Dial(t, chat, get("/rooms/test/ws", ""))
				require.NoError(t, c.Write(t.Context(), ws.Text, []byte(test.body)))
				for {
					if _, _, err := c.Read(t.Context()); err != nil {
						require.Contains(t, []ws.StatusCode{ws.StatusPolicyViolation, ws.StatusMessageTooBig}, ws.CloseStatus(err), "%v", err)
						break
					}
				}
			})
		})
	}
}

func TestTooLongARoomNameIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := ssetest.Connect(t, newChat(new(broadcast.Hub)), get("/rooms/"+strings.Repeat("x", 51)+"/events", ""))
		require.Equal(t, http.StatusNotFound, s.Status())
	})
}

// The router's middleware does not break either transport.
func TestMiddleware(t *testing.T) {
	chat := newChat(new(broadcast.Hub))
	require.NoError(t, ssetest.Diagnose(chat, get("/rooms/test/events", "")))
	require.NoError(t, wstest.Diagnose(chat, get("/rooms/test/ws", "")))
}

func TestPageAndFilesAreServed(t *testing.T) {
	chat := newChat(new(broadcast.Hub))
	for path, status := range map[string]int{"/": 302, "/rooms/lobby": 200, "/static/app.js": 200, "/fanfare.js": 200, "/static/style.css": 200} {
		w := httptest.NewRecorder()
		chat.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		require.Equal(t, status, w.Code, path)
	}
}
