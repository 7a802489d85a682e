package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/faults"
	"github.com/fanfare-go/fanfare/sse/ssetest"
	"github.com/fanfare-go/fanfare/ws"
	"github.com/fanfare-go/fanfare/ws/wstest"
)

// The clock of the synctest bubble advances only when all goroutines in it wait. So the
// test takes no real time, and its timing is exact.
func TestRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room := newRoom()
		say := func(text string) {
			w := httptest.NewRecorder()
			room.ServeHTTP(w, httptest.NewRequest("POST", "/say?name=carl", strings.NewReader(text)))
			require.Equal(t, http.StatusNoContent, w.Code)
		}

		// Joining. Ann has an event stream, Bob a WebSocket over a link that can fail.
		ann := ssetest.Connect(t, room, httptest.NewRequest("GET", "/events?name=ann", nil))
		var link faults.Link
		bob := wstest.Dial(t, room, faults.Via(httptest.NewRequest("GET", "/ws?name=bob", nil), &link))
		annGets := func(typ, text string) {
			t.Helper()
			event := ann.Next()
			require.Equal(t, typ+" "+text, event.Type+" "+string(event.Data))
		}
		annGets("joined", "bob: ")

		// A message.
		require.NoError(t, bob.Write(t.Context(), ws.Text, []byte("hello")))
		annGets("said", "bob: hello")

		// A heartbeat after 15 seconds without a message.
		ann.Quiet(14 * time.Second)
		require.Zero(t, ann.Heartbeats())
		ann.Quiet(time.Second + time.Millisecond)
		require.Equal(t, 1, ann.Heartbeats())

		// Bob's phone loses its network. It does not answer the next ping, and is cut
		// at the one after that.
		link.Vanish()
		vanished := time.Now()
		annGets("left", "bob: ")
		require.LessOrEqual(t, time.Since(vanished), 30*time.Second)

		// Ann disconnects, reconnects, and gets what she missed once and in order.
		ann.Close()
		synctest.Wait() // until the server has noticed
		say("one")
		say("two")
		ann.Reconnect()
		annGets("left", "ann: ")
		annGets("said", "carl: one")
		annGets("said", "carl: two")

		// She misses more than the hub keeps, and gets a gap.
		annGets("joined", "ann: ") // of her own reconnect
		ann.Close()
		synctest.Wait()
		for i := range 20 {
			say(fmt.Sprint(i))
		}
		ann.Reconnect()
		require.Equal(t, "gap", ann.Next().Type)
		for i := 13; i < 20; i++ { // these seven and her own "joined" are the eight that are kept
			annGets("said", fmt.Sprint("carl: ", i))
		}
		annGets("joined", "ann: ")
		ann.Quiet(time.Hour)
	})
}

// A name is in the room as long as one of its connections is open, over either transport.
func TestANameLeavesWithItsLastConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room := newRoom()
		ann := ssetest.Connect(t, room, httptest.NewRequest("GET", "/events?name=ann", nil))
		ann.Status()
		gets := func(typ string) {
			t.Helper()
			event := ann.Next()
			require.Equal(t, typ+" bob: ", event.Type+" "+string(event.Data))
		}

		// Bob's phone changes its network, and he is back before the server notices that
		// his first connection has vanished.
		var link faults.Link
		wstest.Dial(t, room, faults.Via(httptest.NewRequest("GET", "/ws?name=bob", nil), &link))
		gets("joined")
		link.Vanish()
		bob := wstest.Dial(t, room, httptest.NewRequest("GET", "/ws?name=bob", nil))
		ann.Quiet(time.Minute)

		// A second tab of his opens and closes.
		tab := ssetest.Connect(t, room, httptest.NewRequest("GET", "/events?name=bob", nil))
		tab.Status()
		ann.Quiet(time.Minute)
		tab.Close()
		ann.Quiet(time.Minute)

		require.NoError(t, bob.Close(ws.StatusNormalClosure, ""))
		gets("left")
		wstest.Dial(t, room, httptest.NewRequest("GET", "/ws?name=bob", nil))
		gets("joined")
		ann.Quiet(time.Minute)
	})
}

// Joining and leaving alternate, whatever the order in which connections open and close.
func TestJoiningAndLeavingAlternate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room := newRoom()
		ann := ssetest.Connect(t, room, httptest.NewRequest("GET", "/events?name=ann", nil))
		var clients sync.WaitGroup
		for range 4 {
			clients.Go(func() {
				for range 20 {
					s := ssetest.Connect(t, room, httptest.NewRequest("GET", "/events?name=bob", nil))
					s.Close()
				}
			})
		}
		clients.Wait()
		synctest.Wait()
		ann.Close()
		last := "left"
		for e := range ann.All() {
			require.NotEqual(t, last, e.Type, "twice in a row")
			last = e.Type
		}
		require.Equal(t, "left", last)
	})
}

// A message is published even if its sender leaves at once.
func TestMessagesBeforeLeavingArePublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room := newRoom()
		ann := ssetest.Connect(t, room, httptest.NewRequest("GET", "/events?name=ann", nil))
		bob := wstest.Dial(t, room, httptest.NewRequest("GET", "/ws?name=bob", nil))
		require.Equal(t, "joined", ann.Next().Type)
		const sent = 6 // fewer than the hub keeps
		for range sent {
			require.NoError(t, bob.Write(t.Context(), ws.Text, []byte("bye")))
		}
		require.NoError(t, bob.Close(ws.StatusNormalClosure, ""))
		said := 0
		for range sent + 1 { // and "left"
			if ann.Next().Type == "said" {
				said++
			}
		}
		require.Equal(t, sent, said)
	})
}

func TestANameIsNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := ssetest.Connect(t, newRoom(), httptest.NewRequest("GET", "/events", nil))
		require.Equal(t, http.StatusForbidden, stream.Status())
	})
}

// No middleware of the room breaks either transport.
func TestMiddleware(t *testing.T) {
	require.NoError(t, ssetest.Diagnose(newRoom(), httptest.NewRequest("GET", "/events?name=ann", nil)))
	require.NoError(t, wstest.Diagnose(newRoom(), httptest.NewRequest("GET", "/ws?name=ann", nil)))
}
