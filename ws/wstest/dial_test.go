package wstest_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/faults"
	"github.com/fanfare-go/fanfare/internal/failing"
	"github.com/fanfare-go/fanfare/ws"
	"github.com/fanfare-go/fanfare/ws/wstest"
)

// room is a WebSocket of one topic, on which a client's messages are published.
type room struct {
	broadcast.Hub
	ws.Handler
}

func newRoom() *room {
	r := &room{}
	r.Broadcaster, r.Topics = &r.Hub, []string{"room"}
	r.Encode = ws.Raw
	r.Receive = func(_ *http.Request, c *ws.Conn) func(ws.MessageType, []byte) error {
		return func(_ ws.MessageType, data []byte) error {
			_, err := r.Publish(c.Context(), broadcast.Message{Topic: "room", Data: data})
			return err
		}
	}
	return r
}

func (r *room) say(t testing.TB, text string) {
	t.Helper()
	_, err := r.Publish(context.Background(), broadcast.Message{Topic: "room", Data: []byte(text)})
	require.NoError(t, err)
}

func get() *http.Request { return httptest.NewRequest("GET", "/", nil) }

func next(t testing.TB, c *ws.Conn) string {
	t.Helper()
	_, data, err := c.Read(context.Background())
	require.NoError(t, err)
	return string(data)
}

func TestDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom()
		ann, bob := wstest.Dial(t, r, get()), wstest.Dial(t, r, get())
		require.NoError(t, ann.Write(t.Context(), ws.Text, []byte("hello")))
		require.Equal(t, "hello", next(t, ann))
		require.Equal(t, "hello", next(t, bob))

		for i := range 200 {
			r.say(t, fmt.Sprint(i, strings.Repeat(" ", 10_000)))
		}
		time.Sleep(time.Hour)
		require.Equal(t, 2, r.Hub.Stats().Subscriptions, "who sleeps answers pings, and is no slow client")
		for i := range 200 {
			require.Equal(t, fmt.Sprint(i), strings.TrimSpace(next(t, bob)))
		}
		require.NoError(t, r.Hub.Close())
		_, _, err := bob.Read(t.Context())
		require.Equal(t, ws.StatusServiceRestart, ws.CloseStatus(err))
	})
}

type key struct{}

func TestRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, err := ws.Upgrade(w, r, &ws.Options{Subprotocols: []string{"v2", "v1"}})
			if err != nil {
				return
			}
			defer c.Close(ws.StatusNormalClosure, "")
			c.Write(r.Context(), ws.Text, fmt.Appendf(nil, "%s%s from %s, %v, %s", r.Host, r.URL, r.RemoteAddr, r.Context().Value(key{}), r.Header.Get("Authorization")))
		})
		r := httptest.NewRequest("GET", "/a?b=c", nil)
		r.RemoteAddr = "[2001:db8::1]:5555"
		r.Header.Set("Authorization", "Bearer x")
		r.Header.Set("Sec-WebSocket-Protocol", "v3, v1")
		r = r.WithContext(context.WithValue(r.Context(), key{}, "a value"))
		c := wstest.Dial(t, h, r)
		require.Equal(t, "v1", c.Subprotocol())
		require.Equal(t, "example.com/a?b=c from [2001:db8::1]:5555, a value, Bearer x", next(t, c))
		_, _, err := c.Read(t.Context())
		require.Equal(t, ws.StatusNormalClosure, ws.CloseStatus(err))
	})
}

func TestFaults(t *testing.T) {
	for _, test := range []struct {
		name     string
		fault    func(link *faults.Link)
		loud     bool // a message that does not fit on the way comes after 15 s
		min, max time.Duration
		reason   string
	}{
		{"a client that stops reading", (*faults.Link).Stall, true, 20 * time.Second, 25 * time.Second, "WriteTimeout"},
		{"a client that vanishes", (*faults.Link).Vanish, false, 60 * time.Second, 60 * time.Second, "silent from one ping to the next"},
		{"a cut", (*faults.Link).Cut, true, 0, 0, "the server hears of it"},
		{"a cut in the middle of a frame", func(link *faults.Link) { link.CutAfter(100 << 10) }, true, 15 * time.Second, 15 * time.Second, "when it passes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRoom()
				var link faults.Link
				c := wstest.Dial(t, r, faults.Via(get(), &link))
				r.say(t, "first")
				require.Equal(t, "first", next(t, c))
				began := time.Now()
				test.fault(&link)
				if test.loud {
					time.AfterFunc(15*time.Second, func() { r.say(t, strings.Repeat("x", 200<<10)) })
				}
				synctest.Wait()
				for r.Hub.Stats().Subscriptions > 0 && time.Since(began) < time.Hour {
					time.Sleep(10 * time.Millisecond)
					synctest.Wait()
				}
				assert.GreaterOrEqual(t, time.Since(began), test.min, test.reason)
				assert.LessOrEqual(t, time.Since(began), test.max+10*time.Millisecond, test.reason)
				time.Sleep(time.Minute)
				link.Resume()
				c = wstest.Dial(t, r, faults.Via(get(), &link))
				r.say(t, "again")
				require.Equal(t, "again", next(t, c))
			})
		})
	}
}

func TestPipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := wstest.Pipe(t)
		require.NoError(t, client.Write(t.Context(), ws.Text, []byte("ping")))
		require.Equal(t, "ping", next(t, server))
		require.NoError(t, server.Write(t.Context(), ws.Binary, []byte("pong")))
		require.Equal(t, "pong", next(t, client))
		time.Sleep(time.Hour)
		require.NoError(t, server.Write(t.Context(), ws.Text, []byte("still there")))
		require.Equal(t, "still there", next(t, client))
		require.NoError(t, server.Close(4000, "bye"))
		_, _, err := client.Read(t.Context())
		require.Equal(t, ws.StatusCode(4000), ws.CloseStatus(err))
	})
}

// Both work outside of a bubble as well, and leave nothing behind.
func TestInRealTime(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("connections", func(t *testing.T) {
		client, server := wstest.Pipe(t)
		require.NoError(t, client.Write(t.Context(), ws.Text, []byte("hello")))
		require.Equal(t, "hello", next(t, server))
		r := newRoom()
		c := wstest.Dial(t, r, get())
		r.say(t, "hello")
		require.Equal(t, "hello", next(t, c))
	})
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 }, 5*time.Second, time.Millisecond)
}

func TestDialRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said := failing.Said(t, func(t testing.TB) { wstest.Dial(t, http.NotFoundHandler(), get()) })
		require.Contains(t, said, "404")
	})
}
