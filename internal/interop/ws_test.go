package interop_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/ws"
)

var silent = slog.New(slog.DiscardHandler)

// detached maps the values of Detach to their names. Attached and detached streams share the
// wire format, and little code.
var detached = map[bool]string{false: "attached", true: "detached"}

// stage is a hub and a ws.Handler, with a relay in front.
type stage struct {
	*wire
	t       *testing.T
	hub     *broadcast.Hub
	handler *ws.Handler
}

func newStage(t *testing.T, detach bool) *stage {
	hub := &broadcast.Hub{Logger: silent}
	s := &stage{t: t, hub: hub, handler: &ws.Handler{
		Broadcaster: hub, Topics: []string{"prices", "echo"}, Detach: detach, Logger: silent,
		Options: ws.Options{Subprotocols: []string{"fanfare.v1"}, MaxMessage: 1 << 20},
		Receive: func(r *http.Request, _ *ws.Conn) func(ws.MessageType, []byte) error {
			ctx := r.Context()
			return func(typ ws.MessageType, data []byte) error {
				_, err := hub.Publish(ctx, broadcast.Message{Topic: "echo", Data: data, Binary: typ == ws.Binary})
				return err
			}
		},
	}}
	return s
}

// open starts serving. A test may change the handler before.
func (s *stage) open() {
	s.wire = through(s.t, s.handler)
	s.t.Cleanup(func() { s.hub.Close() })
}

func (s *stage) at(query string) dialing {
	return dialing{url: "ws" + strings.TrimPrefix(s.url, "http") + "/" + query, subprotocol: "fanfare.v1"}
}

func (s *stage) publish(m broadcast.Message) broadcast.ID {
	s.t.Helper()
	id, err := s.hub.Publish(s.t.Context(), m)
	require.NoError(s.t, err)
	return id
}

// position returns the hub's position.
func (s *stage) position() broadcast.ID {
	s.t.Helper()
	id, err := s.hub.Position(s.t.Context())
	require.NoError(s.t, err)
	return id
}

// abandoned waits until no stream is left.
func (s *stage) abandoned() {
	s.t.Helper()
	eventually(s.t, func() bool { return s.hub.Stats().Subscriptions == 0 }, "a stream is left without its client")
}

func says(t *testing.T, s socket, want string) {
	t.Helper()
	m, err := s.Read()
	require.NoError(t, err)
	require.Equal(t, message{data: want}, m)
}

func envelope(id broadcast.ID, data string) string {
	return fmt.Sprintf(`{"id":%q,"topic":"prices","type":"tick","data":%q}`, id, data)
}

func tick(data string) broadcast.Message {
	return broadcast.Message{Topic: "prices", Type: "tick", Data: []byte(data)}
}

// closeNormally makes the client close, and checks both close frames.
func closeNormally(t *testing.T, s *stage, conn socket, client socketClient) {
	t.Helper()
	require.NoError(t, conn.Close(1000, "bye"))
	s.abandoned()
	if client.closesTwice == "" {
		require.Equal(t, []int{1000}, s.closed(t, true))
	} else {
		require.Subset(t, []int{1000}, s.closed(t, true), client.closesTwice)
	}
	if client.hangsUp == "" {
		require.Equal(t, []int{1000}, s.closed(t, false))
	}
}

// WebSocket clients of other projects work with our handler.
func TestWebSocketClients(t *testing.T) {
	for _, client := range socketClients {
		cases := []struct {
			name string
			run  func(t *testing.T, s *stage)
		}{
			{"subscribe, receive, send, close", func(t *testing.T, s *stage) {
				s.open()
				begin := s.position()
				conn, err := client.dial(t.Context(), s.at(""))
				require.NoError(t, err)
				require.Equal(t, "fanfare.v1", conn.Subprotocol())
				says(t, conn, fmt.Sprintf(`{"ready":%q,"heartbeat":30}`, begin))
				id := s.publish(tick("ä 1"))
				says(t, conn, envelope(id, "ä 1"))
				require.NoError(t, conn.Write(message{data: "hello"}))
				m, err := conn.Read()
				require.NoError(t, err)
				require.Equal(t, fmt.Sprintf(`{"id":%q,"topic":"echo","data":"hello"}`, s.position()), m.data)
				require.NoError(t, conn.Write(message{binary: true, data: "\x00\xff"}))
				m, err = conn.Read()
				require.NoError(t, err)
				require.Equal(t, fmt.Sprintf(`{"id":%q,"topic":"echo","data":"AP8=","encoding":"base64"}`, s.position()), m.data)
				closeNormally(t, s, conn, client)
			}},
			{"resume", func(t *testing.T, s *stage) {
				s.open()
				conn, err := client.dial(t.Context(), s.at(""))
				require.NoError(t, err)
				_, err = conn.Read() // ready
				require.NoError(t, err)
				seen := s.publish(tick("seen"))
				says(t, conn, envelope(seen, "seen"))
				s.cut()
				_, err = conn.Read()
				require.Error(t, err)
				_ = conn.Close(1000, "") // releases the socket
				missed := s.publish(tick("missed"))
				conn, err = client.dial(t.Context(), s.at("?lastEventId="+seen.String()))
				require.NoError(t, err)
				says(t, conn, fmt.Sprintf(`{"ready":%q,"heartbeat":30}`, seen))
				says(t, conn, envelope(missed, "missed"))
				live := s.publish(tick("live"))
				says(t, conn, envelope(live, "live"))
				closeNormallyAfterCut(t, s, conn)
			}},
			{"gap", func(t *testing.T, s *stage) {
				s.open()
				conn, err := client.dial(t.Context(), s.at("?lastEventId=1f-29")) // of another epoch
				require.NoError(t, err)
				says(t, conn, fmt.Sprintf(`{"gap":%q,"heartbeat":30}`, s.position()))
				after := s.publish(tick("after"))
				says(t, conn, envelope(after, "after"))
				closeNormally(t, s, conn, client)
			}},
			{"answers pings and stays open", func(t *testing.T, s *stage) {
				s.handler.Options.PingInterval = 100 * time.Millisecond
				s.open()
				conn, err := client.dial(t.Context(), s.at(""))
				require.NoError(t, err)
				in := make(chan message, 10)
				end := make(chan error, 1)
				go func() { // a client answers pings while it reads
					for {
						m, err := conn.Read()
						if err != nil {
							end <- err
							return
						}
						in <- m
					}
				}()
				next(t, in) // ready
				eventually(t, func() bool { return s.count(true, opcode(pong)) >= 3 }, "pings are not answered")
				eventually(t, func() bool { return s.count(false, opcode(ping)) >= 3 }, "pongs without pings")
				id := s.publish(tick("alive"))
				require.Equal(t, envelope(id, "alive"), next(t, in).data)
				s.hub.Close()
				require.Error(t, next(t, end))
				_ = conn.Close(1000, "")
			}},
			{"the hub closes", func(t *testing.T, s *stage) {
				s.open()
				conn, err := client.dial(t.Context(), s.at(""))
				require.NoError(t, err)
				_, err = conn.Read()
				require.NoError(t, err)
				last := s.publish(tick("last"))
				s.hub.Close()
				says(t, conn, envelope(last, "last"))
				_, err = conn.Read()
				require.Equal(t, []int{1012}, s.closed(t, false))
				if client.blind != "" {
					require.Error(t, err)
					require.Len(t, s.closed(t, true), 1)
					require.Equal(t, 1, s.count(true, func(f frame) bool { return f.opcode == closing && !f.mask }), client.blind)
					return
				}
				closing := closed{}
				require.ErrorAs(t, err, &closing)
				require.Equal(t, 1012, closing.code)
				require.Equal(t, []int{client.answer1012}, s.closed(t, true), client.answers)
				_ = conn.Close(1000, "")
			}},
			{"compression", func(t *testing.T, s *stage) {
				s.handler.Options.Compression = true
				s.open()
				at := s.at("")
				at.compress = true
				conn, err := client.dial(t.Context(), at)
				require.NoError(t, err)
				_, err = conn.Read()
				require.NoError(t, err)
				for i := range 3 { // without context takeover each message is compressed by itself
					long := strings.Repeat(fmt.Sprint("price ", i, " "), 2000)
					id := s.publish(tick(long))
					says(t, conn, envelope(id, long))
				}
				eventually(t, func() bool { return s.count(false, deflated) == 3 }, "not all is deflated")
				for i := range 3 {
					long := strings.Repeat(fmt.Sprint("said ", i, " "), 2000)
					require.NoError(t, conn.Write(message{data: long}))
					m, err := conn.Read()
					require.NoError(t, err)
					require.Contains(t, m.data, `"topic":"echo","data":"`+long+`"`)
				}
				eventually(t, func() bool { return s.count(true, deflated) == 3 }, "not all is deflated")
				eventually(t, func() bool { return s.count(false, deflated) == 6 }, "not all is deflated")
				closeNormally(t, s, conn, client)
			}},
			{"compression that the server does not offer", func(t *testing.T, s *stage) {
				s.open()
				at := s.at("")
				at.compress = true
				conn, err := client.dial(t.Context(), at)
				require.NoError(t, err)
				_, err = conn.Read()
				require.NoError(t, err)
				long := strings.Repeat("plain ", 2000)
				id := s.publish(tick(long))
				says(t, conn, envelope(id, long))
				require.NoError(t, conn.Write(message{data: long}))
				_, err = conn.Read()
				require.NoError(t, err)
				require.Zero(t, s.count(true, deflated)+s.count(false, deflated))
				closeNormally(t, s, conn, client)
			}},
			{"raw", func(t *testing.T, s *stage) {
				s.handler.Encode = ws.Raw
				s.open()
				conn, err := client.dial(t.Context(), s.at(""))
				require.NoError(t, err)
				eventually(t, func() bool { return s.hub.Stats().Subscriptions == 1 }, "it is not subscribed")
				for _, size := range []int{0, 1, 125, 126, 65535, 65536} { // where the encoding of the length changes
					text := strings.Repeat("x", size)
					s.publish(tick(text))
					says(t, conn, text)
				}
				s.publish(broadcast.Message{Topic: "prices", Data: []byte("\x00\xff"), Binary: true})
				m, err := conn.Read()
				require.NoError(t, err)
				require.Equal(t, message{binary: true, data: "\x00\xff"}, m)
				for _, said := range []message{{data: "text"}, {binary: true, data: "\xfe"}} {
					require.NoError(t, conn.Write(said))
					m, err := conn.Read()
					require.NoError(t, err)
					require.Equal(t, said, m)
				}
				closeNormally(t, s, conn, client)
			}},
		}
		for _, c := range cases {
			for detach, way := range detached {
				t.Run(client.name+"/"+c.name+"/"+way, func(t *testing.T) {
					t.Parallel()
					c.run(t, newStage(t, detach))
				})
			}
		}
	}
}

// closeNormallyAfterCut is closeNormally for a relay that has recorded another connection
// before.
func closeNormallyAfterCut(t *testing.T, s *stage, conn socket) {
	t.Helper()
	require.NoError(t, conn.Close(1000, ""))
	s.abandoned()
	eventually(t, func() bool { codes := s.closes(true); return len(codes) > 0 && codes[len(codes)-1] == 1000 }, "no close frame from the client")
}
