package wstest_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/faults"
	"github.com/fanfare-go/fanfare/internal/failing"
	"github.com/fanfare-go/fanfare/ws"
	"github.com/fanfare-go/fanfare/ws/wstest"
)

// room is a WebSocket handler of one topic, to which its clients' messages are published.
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

func (r *room) publish(t testing.TB, text string) {
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

func TestASleepingTestIsNoSlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom()
		ann, bob := wstest.Dial(t, r, get()), wstest.Dial(t, r, get())
		require.NoError(t, ann.Write(t.Context(), ws.Text, []byte("hello")))
		require.Equal(t, "hello", next(t, ann))
		require.Equal(t, "hello", next(t, bob))

		for i := range 200 {
			r.publish(t, fmt.Sprint(i, strings.Repeat(" ", 10_000)))
		}
		time.Sleep(time.Hour)
		require.Equal(t, 2, r.Hub.Stats().Subscriptions, "both answer pings")
		for i := range 200 {
			require.Equal(t, fmt.Sprint(i), strings.TrimSpace(next(t, bob)))
		}
		require.NoError(t, r.Hub.Close())
		_, _, err := bob.Read(t.Context())
		require.Equal(t, ws.StatusServiceRestart, ws.CloseStatus(err))
	})
}

type key struct{}

func TestTheHandlerSeesTheRequest(t *testing.T) {
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

func TestTheServerNoticesFaults(t *testing.T) {
	for _, test := range []struct {
		name     string
		fault    func(link *faults.Link)
		loud     bool // after 15 s a message is published that exceeds the link's Buffer
		min, max time.Duration
		reason   string
	}{
		{"a client that stops reading", (*faults.Link).Stall, true, 20 * time.Second, 25 * time.Second, "WriteTimeout"},
		{"a client that vanishes", (*faults.Link).Vanish, false, 60 * time.Second, 60 * time.Second, "two ping intervals without a pong"},
		{"a cut", (*faults.Link).Cut, true, 0, 0, "a reset arrives at once"},
		{"a cut in the middle of a frame", func(link *faults.Link) { link.CutAfter(100 << 10) }, true, 15 * time.Second, 15 * time.Second, "when the message is sent"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRoom()
				var link faults.Link
				c := wstest.Dial(t, r, faults.Via(get(), &link))
				r.publish(t, "first")
				require.Equal(t, "first", next(t, c))
				began := time.Now()
				test.fault(&link)
				if test.loud {
					time.AfterFunc(15*time.Second, func() { r.publish(t, strings.Repeat("x", 200<<10)) })
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
				r.publish(t, "again")
				require.Equal(t, "again", next(t, c))
			})
		})
	}
}

func TestPipeConnectsTwoEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := wstest.Pipe(t)
		require.NoError(t, client.Write(t.Context(), ws.Text, []byte("ping")))
		require.Equal(t, "ping", next(t, server))
		require.NoError(t, server.Write(t.Context(), ws.Binary, []byte("pong")))
		require.Equal(t, "pong", next(t, client))
		time.Sleep(time.Hour)
		require.NoError(t, server.Write(t.Context(), ws.Text, []byte("after an hour")))
		require.Equal(t, "after an hour", next(t, client))
		require.NoError(t, server.Close(4000, "bye"))
		_, _, err := client.Read(t.Context())
		require.Equal(t, ws.StatusCode(4000), ws.CloseStatus(err))
	})
}

// Dial and Pipe also work outside of a bubble, and leave no goroutine running.
func TestDialAndPipeInRealTime(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("connections", func(t *testing.T) {
		client, server := wstest.Pipe(t)
		require.NoError(t, client.Write(t.Context(), ws.Text, []byte("hello")))
		require.Equal(t, "hello", next(t, server))
		r := newRoom()
		c := wstest.Dial(t, r, get())
		r.publish(t, "hello")
		require.Equal(t, "hello", next(t, c))
	})
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 }, 5*time.Second, time.Millisecond)
}

func TestDialFailsTheTestIfRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said := failing.Said(t, func(t testing.TB) { wstest.Dial(t, http.NotFoundHandler(), get()) })
		require.Contains(t, said, "404")
	})
}

// A test ends although its client has vanished: the server's end is closed too.
func TestATestEndsWithAVanishedClient(t *testing.T) {
	for _, ping := range []time.Duration{0, time.Minute, -1} {
		t.Run(fmt.Sprint(ping), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := new(broadcast.Hub)
				said := failing.Said(t, func(t testing.TB) {
					var link faults.Link
					wstest.Dial(t, &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Logger: slog.New(slog.DiscardHandler), Options: ws.Options{PingInterval: ping}},
						faults.Via(httptest.NewRequest("GET", "/", nil), &link))
					link.Vanish()
				})
				require.Empty(t, said)
			})
		})
	}
}

// Dial accepts URLs of every scheme; there is no TLS in memory.
func TestDialAcceptsEveryScheme(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, u := range []string{"https://example.com/", "wss://example.com/", "ws://example.com/"} {
			said := failing.Said(t, func(t testing.TB) {
				wstest.Dial(t, &ws.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"a"}}, httptest.NewRequest("GET", u, nil))
			})
			require.Empty(t, said)
		}
	})
}

// Dial sends the request's Host, not that of its URL.
func TestDialSendsTheRequestsHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var host string
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			host = r.Host
			c, err := ws.Upgrade(w, r, nil)
			if err == nil {
				c.Close(1000, "")
			}
		})
		r := httptest.NewRequest("GET", "http://a.example/", nil)
		r.Host = "b.example"
		wstest.Dial(t, h, r)
		require.Equal(t, "b.example", host)
	})
}

// A client that asks for its refusal by a close frame gets a connection, and then the
// refusal as the error of Read.
func TestDialOfARefusalByAClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &ws.Handler{Broadcaster: new(broadcast.Hub), Grant: func(*http.Request) (*fanfare.Grant, error) {
			return nil, &fanfare.Refusal{Status: http.StatusUnauthorized}
		}}
		c := wstest.Dial(t, h, httptest.NewRequest("GET", "/?refusals=close", nil))
		_, _, err := c.Read(t.Context())
		require.Equal(t, ws.StatusUnauthorized, ws.CloseStatus(err))
	})
}
