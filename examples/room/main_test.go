package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/faults"
	"github.com/fanfare-go/fanfare/sse/ssetest"
	"github.com/fanfare-go/fanfare/ws"
	"github.com/fanfare-go/fanfare/ws/wstest"
)

// In the bubble that synctest.Test makes, time stands still while anybody has
// something to do, and leaps when everybody waits: nothing here takes real time,
// and nothing is left to chance.
func TestRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room := newRoom()
		say := func(text string) {
			w := httptest.NewRecorder()
			room.ServeHTTP(w, httptest.NewRequest("POST", "/say?name=carl", strings.NewReader(text)))
			require.Equal(t, http.StatusNoContent, w.Code)
		}

		// Joining. Ann listens with an EventSource, Bob has a WebSocket, over a link
		// that can be broken.
		ann := ssetest.Connect(t, room, httptest.NewRequest("GET", "/events?name=ann", nil))
		var link faults.Link
		bob := wstest.Dial(t, room, faults.Via(httptest.NewRequest("GET", "/ws?name=bob", nil), &link))
		hears := func(what, text string) {
			t.Helper()
			event := ann.Next()
			require.Equal(t, what+" "+text, event.Type+" "+string(event.Data))
		}
		hears("joined", "bob: ")

		// A message.
		require.NoError(t, bob.Write(t.Context(), ws.Text, []byte("hello")))
		hears("said", "bob: hello")

		// A heartbeat when nothing was said for 15 seconds.
		ann.Quiet(14 * time.Second)
		require.Zero(t, ann.Heartbeats())
		ann.Quiet(time.Second + time.Millisecond)
		require.Equal(t, 1, ann.Heartbeats())

		// Bob's phone loses its network. It does not answer the next ping, and is
		// gone with the one after that.
		link.Vanish()
		vanished := time.Now()
		hears("left", "bob: ")
		require.LessOrEqual(t, time.Since(vanished), 30*time.Second)

		// Ann is away for a while, and gets what she missed: once, in order.
		ann.Close()
		synctest.Wait() // until the room has noticed
		say("one")
		say("two")
		ann.Reconnect()
		hears("left", "ann: ")
		hears("said", "carl: one")
		hears("said", "carl: two")

		// She is away for longer than the room remembers, and is told so.
		hears("joined", "ann: ") // what she did not see: she was coming back herself
		ann.Close()
		synctest.Wait()
		for i := range 20 {
			say(fmt.Sprint(i))
		}
		ann.Reconnect()
		require.Equal(t, "gap", ann.Next().Type)
		for i := 13; i < 20; i++ { // seven and her own return are the eight that are kept
			hears("said", fmt.Sprint("carl: ", i))
		}
		hears("joined", "ann: ")
		ann.Quiet(time.Hour)
	})
}

// Whoever says something and leaves at once is heard.
func TestLastWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room := newRoom()
		ann := ssetest.Connect(t, room, httptest.NewRequest("GET", "/events?name=ann", nil))
		bob := wstest.Dial(t, room, httptest.NewRequest("GET", "/ws?name=bob", nil))
		require.Equal(t, "joined", ann.Next().Type)
		const words = 6 // fewer than the room keeps
		for range words {
			require.NoError(t, bob.Write(t.Context(), ws.Text, []byte("bye")))
		}
		require.NoError(t, bob.Close(ws.StatusNormalClosure, ""))
		said := 0
		for range words + 1 { // beside his leaving
			if ann.Next().Type == "said" {
				said++
			}
		}
		require.Equal(t, words, said)
	})
}

func TestNobodyWithoutAName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := ssetest.Connect(t, newRoom(), httptest.NewRequest("GET", "/events", nil))
		require.Equal(t, http.StatusForbidden, stream.Status())
	})
}

// What stands around the room breaks neither transport.
func TestMiddleware(t *testing.T) {
	require.NoError(t, ssetest.Diagnose(newRoom(), httptest.NewRequest("GET", "/events?name=ann", nil)))
	require.NoError(t, wstest.Diagnose(newRoom(), httptest.NewRequest("GET", "/ws?name=ann", nil)))
}
