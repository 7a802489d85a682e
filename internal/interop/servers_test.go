package interop_test

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	gorilla "github.com/gorilla/websocket"
	"github.com/lxzan/gws"
	r3labs "github.com/r3labs/sse/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	tmaxmax "github.com/tmaxmax/go-sse"

	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// eventServers are event stream servers of other projects. start returns a handler, the query
// of a stream, and functions that publish an event and stop the server.
var eventServers = []struct {
	name  string
	start func(t *testing.T) (h http.Handler, query string, publish func(typ, data string), stop func())

	repeats string // why it sends the event of the Last-Event-ID again
}{
	{name: "tmaxmax", start: func(t *testing.T) (http.Handler, string, func(typ, data string), func()) {
		replayer, err := tmaxmax.NewFiniteReplayer(10, true)
		require.NoError(t, err)
		server := &tmaxmax.Server{Provider: &tmaxmax.Joe{Replayer: replayer}}
		publish := func(typ, data string) {
			m := &tmaxmax.Message{Type: tmaxmax.Type(typ)}
			m.AppendData(data)
			assert.NoError(t, server.Publish(m)) // of any goroutine
		}
		return server, "", publish, func() {
			// Shutdown lets requests return whose replays are being flushed. A message is taken after those.
			_ = server.Publish(&tmaxmax.Message{}, "nobody's topic")
			_ = server.Shutdown(context.Background())
		}
	}},
	{
		name: "r3labs", repeats: "it replays from the ID on, that event included",
		start: func(*testing.T) (http.Handler, string, func(typ, data string), func()) {
			gone := make(chan struct{}, 10)
			server := r3labs.NewWithCallback(nil, func(string, *r3labs.Subscriber) { gone <- struct{}{} })
			server.SplitData = true // else only the first line of data is a field
			server.CreateStream("s")
			publish := func(typ, data string) {
				server.Publish("s", &r3labs.Event{Event: []byte(typ), Data: []byte(data)})
			}
			return server, "?stream=s", publish, func() {
				for range 2 { // a subscriber that leaves after Close blocks for ever
					<-gone
				}
				server.Close()
			}
		},
	},
}

// An sse.Client reads event streams of other servers, and resumes after a cut.
func TestEventStreamServers(t *testing.T) {
	for _, c := range eventServers {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			handler, query, publish, stop := c.start(t)
			w := through(t, handler)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+"/"+query, nil)
			require.NoError(t, err)
			client, done := ownTransport()
			got := make(chan sse.Event, 10)
			ended := make(chan error, 1)
			go func() {
				var last error
				for e, err := range (&sse.Client{HTTPClient: client, MaxBackoff: soon, Logger: silent}).Events(r) {
					if err != nil {
						last = err
						break
					}
					got <- e
				}
				ended <- last
			}()
			eventually(t, func() bool { return len(w.resumed()) == 1 }, "no request")
			// The server subscribes some time after the request, and not each replays to who has no ID.
			eventually(t, func() bool { publish("tick", "one"); return len(got) > 0 }, "no event")
			first := next(t, got)
			require.Equal(t, "tick", first.Type)
			require.Equal(t, "one", string(first.Data))
			require.NotEmpty(t, first.ID)
			publish("tick", "two\nlines")
			second := next(t, got)
			for before := first; string(second.Data) == "one"; second = next(t, got) {
				require.NotEqual(t, before.ID, second.ID, "an event came twice")
				before = second
			}
			require.Equal(t, "two\nlines", string(second.Data))

			w.cut()
			publish("tock", "missed")
			missed := next(t, got)
			if c.repeats != "" {
				require.Equal(t, second, missed, c.repeats)
				missed = next(t, got)
			}
			require.Equal(t, "tock", missed.Type)
			require.Equal(t, "missed", string(missed.Data))
			require.Equal(t, second.ID, w.resumed()[1])
			one, err := strconv.Atoi(second.ID)
			require.NoError(t, err)
			require.Equal(t, strconv.Itoa(one+1), missed.ID)

			cancel()
			require.ErrorIs(t, next(t, ended), context.Canceled)
			done()
			stop()
		})
	}
}

// socketServers are WebSocket servers of other projects that echo each message. After the
// message "ping" they also send a ping, and the message "close" makes them close with 4001.
var socketServers = []struct {
	name  string
	start func(ended chan<- int) http.Handler // ended gets the code of the client's close frame
}{
	{name: "gorilla", start: func(ended chan<- int) http.Handler {
		// Small buffers make many fragments of a large message.
		upgrader := gorilla.Upgrader{EnableCompression: true, Subprotocols: []string{"echo"}, WriteBufferSize: 1024}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, err := upgrader.Upgrade(w, r, nil)
			if err != nil {
				return
			}
			defer conn.Close()
			for {
				typ, data, err := conn.ReadMessage()
				if closing := (*gorilla.CloseError)(nil); errors.As(err, &closing) {
					ended <- closing.Code
				}
				if err != nil {
					return
				}
				switch string(data) {
				case "ping":
					_ = conn.WriteMessage(gorilla.PingMessage, []byte("are you there"))
				case "close":
					_ = conn.WriteMessage(gorilla.CloseMessage, gorilla.FormatCloseMessage(4001, "enough"))
					continue // read until the client has answered
				}
				out, err := conn.NextWriter(typ) // WriteMessage would write one frame
				if err != nil {
					return
				}
				if _, err := out.Write(data); err != nil {
					return
				}
				if out.Close() != nil {
					return
				}
			}
		})
	}},
	{name: "gws", start: func(ended chan<- int) http.Handler {
		upgrader := gws.NewUpgrader(gwsEcho{ended: ended}, &gws.ServerOption{
			PermessageDeflate: gws.PermessageDeflate{Enabled: true}, SubProtocols: []string{"echo"}, CheckUtf8Enabled: true,
		})
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if conn, err := upgrader.Upgrade(w, r); err == nil {
				conn.ReadLoop()
			}
		})
	}},
}

type gwsEcho struct {
	gws.BuiltinEventHandler
	ended chan<- int
}

func (gwsEcho) OnPing(conn *gws.Conn, payload []byte) { _ = conn.WritePong(payload) }

func (gwsEcho) OnMessage(conn *gws.Conn, m *gws.Message) {
	defer m.Close()
	switch m.Data.String() {
	case "ping":
		_ = conn.WritePing([]byte("are you there"))
	case "close":
		_ = conn.WriteClose(4001, []byte("enough"))
		return
	}
	_ = conn.WriteMessage(m.Opcode, m.Bytes())
}

func (e gwsEcho) OnClose(_ *gws.Conn, err error) {
	if closing := (*gws.CloseError)(nil); errors.As(err, &closing) {
		e.ended <- int(closing.Code)
	}
}

// A Conn of ws.Dial works with WebSocket servers of other projects.
func TestWebSocketServers(t *testing.T) {
	for _, server := range socketServers {
		echo := func(t *testing.T, conn *ws.Conn, typ ws.MessageType, data string) {
			t.Helper()
			require.NoError(t, conn.Write(t.Context(), typ, []byte(data)))
			gotType, got, err := conn.Read(t.Context())
			require.NoError(t, err)
			require.Equal(t, typ, gotType)
			require.Equal(t, data, string(got))
		}
		cases := []struct {
			name    string
			options ws.Options
			run     func(t *testing.T, w *wire, conn *ws.Conn, ended <-chan int)
		}{
			{"echo", ws.Options{}, func(t *testing.T, w *wire, conn *ws.Conn, _ <-chan int) {
				for _, size := range []int{0, 1, 125, 126, 65535, 65536, 200_000} {
					echo(t, conn, ws.Text, strings.Repeat("x", size))
					echo(t, conn, ws.Binary, strings.Repeat("\xff", size))
				}
				require.Zero(t, w.count(true, deflated)+w.count(false, deflated), "frames compressed without an offer")
				if server.name == "gorilla" {
					eventually(t, func() bool { return w.count(false, opcode(continuation)) > 0 }, "no fragments")
				}
			}},
			{"compression", ws.Options{Compression: true}, func(t *testing.T, w *wire, conn *ws.Conn, _ <-chan int) {
				for range 3 {
					echo(t, conn, ws.Text, strings.Repeat("deflate me ", 5000))
				}
				eventually(t, func() bool { return w.count(true, deflated) == 3 }, "ours are not deflated")
				eventually(t, func() bool { return w.count(false, deflated) == 3 }, "theirs are not deflated")
			}},
			{"their pings", ws.Options{}, func(t *testing.T, w *wire, conn *ws.Conn, _ <-chan int) {
				echo(t, conn, ws.Text, "ping") // the server answers the ping while it reads
				answered := func(f frame) bool { return f.opcode == pong && string(f.payload) == "are you there" }
				eventually(t, func() bool { return w.count(true, answered) == 1 }, "the ping is not answered")
			}},
			{"our pings", ws.Options{PingInterval: 100 * time.Millisecond}, func(t *testing.T, w *wire, conn *ws.Conn, _ <-chan int) {
				conn.CloseRead()
				eventually(t, func() bool { return w.count(false, opcode(pong)) >= 3 }, "our pings are not answered")
				require.NoError(t, conn.Context().Err(), "the connection stays open")
			}},
			{"they close", ws.Options{}, func(t *testing.T, w *wire, conn *ws.Conn, _ <-chan int) {
				require.NoError(t, conn.Write(t.Context(), ws.Text, []byte("close")))
				_, _, err := conn.Read(t.Context())
				closing := (*ws.CloseError)(nil)
				require.ErrorAs(t, err, &closing)
				require.Equal(t, &ws.CloseError{Code: 4001, Reason: "enough"}, closing)
				require.Equal(t, []int{4001}, w.closed(t, true))
			}},
			{"we close with 1000", ws.Options{}, func(t *testing.T, w *wire, conn *ws.Conn, ended <-chan int) {
				require.NoError(t, conn.Close(ws.StatusNormalClosure, "bye"))
				require.Equal(t, 1000, next(t, ended))
				require.Equal(t, []int{1000}, w.closed(t, true))
			}},
			{"we close with 4002", ws.Options{}, func(t *testing.T, w *wire, conn *ws.Conn, ended <-chan int) {
				require.NoError(t, conn.Close(4002, "a code of our own"))
				require.Equal(t, 4002, next(t, ended))
				require.Equal(t, []int{4002}, w.closed(t, false))
			}},
		}
		for _, c := range cases {
			t.Run(server.name+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				ended := make(chan int, 1)
				w := through(t, server.start(ended))
				client, done := ownTransport()
				defer done()
				c.options.Subprotocols, c.options.MaxMessage = []string{"echo"}, 1<<20
				conn, err := ws.Dial(t.Context(), w.url, &ws.DialOptions{HTTPClient: client, Options: c.options})
				require.NoError(t, err)
				defer conn.CloseNow()
				require.Equal(t, "echo", conn.Subprotocol())
				c.run(t, w, conn, ended)
			})
		}
	}
}
