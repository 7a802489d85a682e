package ws_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/ws"
)

var silent = slog.New(slog.DiscardHandler)

// say publishes text on a topic and returns its ID.
func say(t *testing.T, hub *broadcast.Hub, topic, data string) string {
	t.Helper()
	id, err := hub.Publish(context.Background(), broadcast.Message{Topic: topic, Data: []byte(data)})
	require.NoError(t, err)
	return id.String()
}

func position(t *testing.T, hub *broadcast.Hub) string {
	t.Helper()
	id, err := hub.Position(context.Background())
	require.NoError(t, err)
	return id.String()
}

func message(id, topic, data string) string {
	return fmt.Sprintf(`{"id":%q,"topic":%q,"data":%q}`, id, topic, data)
}

func before(t *testing.T, id string) string {
	t.Helper()
	parsed, err := broadcast.ParseID(id)
	require.NoError(t, err)
	return broadcast.MakeID(parsed.Epoch(), parsed.Seq()-1).String()
}

// logbook is a slog.Handler that counts.
type logbook struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logbook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *logbook) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), s)
}

func TestWire(t *testing.T) {
	hub := &broadcast.Hub{Keep: 2}
	serve(t, &ws.Handler{Broadcaster: hub, Topics: []string{"a", "b"}}, func(t *testing.T, n *network) {
		begin := position(t, hub)
		p := n.raw("/", "")
		p.says(`{"ready":"` + begin + `"}`)
		id, err := hub.Publish(t.Context(), broadcast.Message{Topic: "a", Type: "tick", Data: []byte(`{"usd":42}`)})
		require.NoError(t, err)
		p.says(`{"id":"` + id.String() + `","topic":"a","type":"tick","data":"{\"usd\":42}"}`)
		id, err = hub.Publish(t.Context(), broadcast.Message{Topic: "b", Data: []byte{0xff}, Binary: true})
		require.NoError(t, err)
		p.says(`{"id":"` + id.String() + `","topic":"b","data":"/w==","encoding":"base64"}`)
		p.Close()

		one, two := say(t, hub, "a", "1"), say(t, hub, "a", "2")
		p = n.raw("/?lastEventId="+one, "")
		p.says(`{"ready":"`+one+`"}`, message(two, "a", "2"))
		p.Close()
		three := say(t, hub, "a", "3")
		p = n.raw("/?lastEventId="+id.String(), "")
		p.says(`{"gap":"`+before(t, two)+`","topics":["a"]}`, message(two, "a", "2"), message(three, "a", "3"))
		p.Close()
		for _, odd := range []string{"nonsense", "2-5", "1-0"} {
			p := n.raw("/?lastEventId="+odd, "")
			p.says(`{"gap":"` + before(t, id.String()) + `"}`)
			p.Close()
		}
		synctest.Wait()
	})
}

func TestPositionBesideThePing(t *testing.T) {
	hub := &broadcast.Hub{}
	serve(t, &ws.Handler{Broadcaster: hub, Topics: []string{"a"}}, func(t *testing.T, n *network) {
		p := n.raw("/", "")
		p.says(`{"ready":"` + position(t, hub) + `"}`)
		elsewhere := say(t, hub, "b", "not for this client")
		// The first interval has had bytes. What comes with the second are the ping
		// and the position, in any order, and never one for the other.
		var got []string
		for range 3 {
			f := p.next()
			got = append(got, f.String())
			if f.first == fin|ping {
				p.write(masked(fin|pong, f.payload))
			}
		}
		synctest.Wait()
		assert.Contains(t, strings.Join(got, "\n"), `{\"position\":\"`+elsewhere)
		assert.Contains(t, strings.Join(got, "\n"), "0x89")
		p.Close()
	})
}

func TestGrantOverWebSocket(t *testing.T) {
	hub := &broadcast.Hub{}
	log := &logbook{}
	var left atomic.Int32
	var states atomic.Int32
	h := &ws.Handler{Broadcaster: hub, Logger: log.logger(), Grant: func(r *http.Request) (*fanfare.Grant, error) {
		context.AfterFunc(r.Context(), func() { left.Add(1) })
		switch r.URL.Path {
		case "/panic":
			panic("in Grant")
		case "/away":
			return nil, &fanfare.Refusal{Status: 503, RetryAfter: 1500 * time.Millisecond}
		}
		return &fanfare.Grant{
			Topics:  []string{"a"},
			Last:    2,
			Expires: time.Now().Add(50 * time.Second),
			Filter: func(m *broadcast.Message) bool {
				if string(m.Data) == "poison" {
					panic("in Filter")
				}
				return m.From != "me"
			},
			Snapshot: func(context.Context) ([]broadcast.Message, error) {
				return []broadcast.Message{{Topic: "a", Data: fmt.Append(nil, "state ", states.Add(1))}}, nil
			},
		}, nil
	}}
	serve(t, h, func(t *testing.T, n *network) {
		for path, status := range map[string]int{"/panic": 500, "/away": 503} {
			_, err := ws.Dial(t.Context(), "ws://memory"+path, &ws.DialOptions{HTTPClient: n.client})
			var refused *ws.HandshakeError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, status, refused.Status)
		}
		for _, text := range []string{"0", "1", "2"} {
			say(t, hub, "a", text)
		}
		p := n.raw("/", "")
		p.says(`{"topic":"a","data":"state 1"}`, `{"topic":"a","data":"1"}`, `{"topic":"a","data":"2"}`, `{"ready":"`+position(t, hub)+`"}`)
		say(t, hub, "a", "poison")
		_, err := hub.Publish(t.Context(), broadcast.Message{Topic: "a", From: "me"})
		require.NoError(t, err)
		p.says(message(say(t, hub, "a", "3"), "a", "3"))
		require.Equal(t, fin|ping, int(p.next().first))
		p.write(masked(fin|pong, ""))
		require.Equal(t, "expired", p.closes(ws.StatusUnauthorized))
		synctest.Wait()
		require.Equal(t, 1, log.count("panic in Grant.Filter"))
		require.EqualValues(t, 3, left.Load(), "each request's context has ended, once")

		// A gap, and the state again; cut before the position, it gets it once more.
		for i := range 2 {
			p := n.raw("/?lastEventId=1-0", "")
			p.says(`{"gap":"1-0"}`, fmt.Sprintf(`{"topic":"a","data":"state %d"}`, i+2))
			if i == 1 {
				f := p.next()
				require.Contains(t, f.payload, `{"position":"`)
			}
			p.Close()
		}
		synctest.Wait()
	})
}

func TestEndsOfStreams(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(t *testing.T, n *network, hub *broadcast.Hub)
		idle bool // the stream has nothing to write
	}{
		{"Hub.Close", func(t *testing.T, n *network, hub *broadcast.Hub) { hub.Close() }, false},
		{"Hub.Close, idle", func(t *testing.T, n *network, hub *broadcast.Hub) { hub.Close() }, true},
		{"Server.Shutdown", func(t *testing.T, n *network, hub *broadcast.Hub) { n.server.Shutdown(context.Background()) }, false},
		{"Server.Shutdown, idle", func(t *testing.T, n *network, hub *broadcast.Hub) { n.server.Shutdown(context.Background()) }, true},
		{"MaxAge", func(*testing.T, *network, *broadcast.Hub) {}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			hub := &broadcast.Hub{Keep: 1000}
			h := &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Options: ws.Options{PingInterval: -1, MaxAge: 100 * time.Second}}
			serve(t, h, func(t *testing.T, n *network) {
				p := n.raw("/", "")
				p.says(`{"ready":"` + position(t, hub) + `"}`)
				read := 0
				if test.idle {
					test.end(t, n, hub)
				} else { // the writer is stuck in the first of many
					for i := range 300 {
						say(t, hub, "a", fmt.Sprint(i))
					}
					test.end(t, n, hub)
				}
				f := p.next()
				for ; f.first == fin|text; f = p.next() {
					require.Contains(t, f.payload, fmt.Sprintf(`"data":"%d"`, read))
					read++
				}
				if !test.idle {
					require.Equal(t, 300, read, "what it was owed comes first")
				}
				require.Equal(t, frame{fin | clos, closing(ws.StatusServiceRestart, "service restart")}, f)
				io.WriteString(p.Conn, masked(fin|clos, f.payload[:2]))
				p.ends()
				synctest.Wait()
			})
		})
	}
	t.Run("the request's context", func(t *testing.T) {
		hub := &broadcast.Hub{}
		h := &ws.Handler{Broadcaster: hub, Topics: []string{"a"}}
		ctx, cancel := context.WithCancel(context.Background())
		serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r.WithContext(ctx)) }), func(t *testing.T, n *network) {
			p := n.raw("/", "")
			p.says(`{"ready":"` + position(t, hub) + `"}`)
			cancel()
			p.closes(ws.StatusGoingAway)
			synctest.Wait()
		})
	})
}

func TestRawAndOtherFrames(t *testing.T) {
	hub := &broadcast.Hub{Keep: 1}
	encode := func(m *broadcast.Message) (ws.MessageType, []byte, bool) {
		switch string(m.Data) {
		case "panic":
			panic("in Encode")
		case "not UTF-8":
			return ws.Text, []byte{0xff}, true
		case "nobody":
			return 0, nil, false
		}
		return 0, append([]byte("> "), m.Data...), true
	}
	log := &logbook{}
	mux := http.NewServeMux()
	mux.Handle("/raw", &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Encode: ws.Raw})
	mux.Handle("/own", &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Encode: encode, Logger: log.logger(),
		Notice: func(n fanfare.Notice) (ws.MessageType, []byte, bool) {
			return ws.Text, []byte(n.Kind), n.Kind != fanfare.Ready
		}})
	serve(t, mux, func(t *testing.T, n *network) {
		raw, own, other := n.raw("/raw", ""), n.raw("/own", ""), n.raw("/own", "")
		synctest.Wait()
		say(t, hub, "a", "x")
		raw.says("x")
		own.says("> x")
		other.says("> x")
		synctest.Wait()
		for _, text := range []string{"panic", "not UTF-8", "nobody"} {
			say(t, hub, "a", text)
			raw.says(text)
			synctest.Wait()
		}
		_, err := hub.Publish(t.Context(), broadcast.Message{Topic: "a", Data: []byte{0xff, 0xfe}, Binary: true})
		require.NoError(t, err)
		require.Equal(t, frame{fin | bin, "\xff\xfe"}, raw.next())
		synctest.Wait()
		require.Equal(t, 3, log.count("cannot be encoded"), "once a message, not a stream")

		gap := n.raw("/own?lastEventId=1-0", "")
		gap.says("gap")
		lost := n.raw("/raw?lastEventId=1-0", "")
		lost.closes(ws.StatusTryAgainLater)
		for _, p := range []*peer{raw, own, other, gap} {
			p.Close()
		}
		synctest.Wait()
	})
}

func TestReceive(t *testing.T) {
	hub := &broadcast.Hub{}
	log := &logbook{}
	serve(t, nil, func(t *testing.T, n *network) {
		var got []string
		var running atomic.Int32
		gate := make(chan struct{})
		n.server.Handler = &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Logger: log.logger(),
			Options: ws.Options{MaxMessage: 1000, MessageRate: 100, PingInterval: 30 * time.Second},
			Receive: func(r *http.Request, c *ws.Conn) func(ws.MessageType, []byte) error {
				if r.URL.Path == "/panic" {
					panic("in Receive")
				}
				return func(typ ws.MessageType, data []byte) error {
					assert.EqualValues(t, 1, running.Add(1), "never twice at once")
					defer running.Add(-1)
					switch s := string(data); s {
					case "stop":
						return io.EOF
					case "kick":
						return fmt.Errorf("wrapped: %w", &ws.CloseError{Code: 4001, Reason: "kicked"})
					case "fail":
						return errors.New("its words are not for the client")
					case "panic":
						panic("in the function")
					case "wait":
						<-gate
					case "answer":
						return c.Write(context.Background(), ws.Text, []byte("answered"))
					default:
						got = append(got, s)
					}
					return nil
				}
			}}
		open := func(path string) *peer {
			p := n.raw(path, "")
			p.says(`{"ready":"` + position(t, hub) + `"}`)
			return p
		}
		for what, code := range map[string]ws.StatusCode{"stop": 1000, "kick": 4001, "fail": 1011, "panic": 1011} {
			p := open("/")
			p.write(masked(fin|text, what) + masked(fin|text, "never handed over"))
			reason := p.closes(code)
			if code == 4001 {
				require.Equal(t, "kicked", reason)
			} else {
				require.Empty(t, reason)
			}
		}
		open("/panic").closes(1011)
		synctest.Wait()
		require.Equal(t, 3, log.count("Handler.Receive"))
		require.Empty(t, got)

		p := open("/")
		p.write(masked(fin|text, "answer"))
		p.says("answered")
		// While the function is at work, what comes is read on, up to MaxMessage.
		p.write(masked(fin|text, "wait"))
		for i := range 10 {
			p.write(masked(fin|text, fmt.Sprint(i)))
		}
		p.write(masked(fin|ping, "still there?"))
		require.Equal(t, frame{fin | pong, "still there?"}, p.next())
		// Too much: it is not read, and the silence is not held against the peer.
		stuck := make(chan struct{})
		go func() {
			defer close(stuck)
			for i := range 30 {
				io.WriteString(p.Conn, masked(fin|text, fmt.Sprint(i+10)+strings.Repeat(" ", 100)))
			}
		}()
		p.SetReadDeadline(time.Time{})
		go io.Copy(io.Discard, p.Conn) // pings
		time.Sleep(10 * time.Minute)
		select {
		case <-stuck:
			require.Fail(t, "all was read")
		default:
		}
		close(gate)
		<-stuck
		synctest.Wait()
		require.Len(t, got, 40)
		for i, s := range got {
			require.Equal(t, fmt.Sprint(i), strings.TrimSpace(s), "in order")
		}
		p.Close()

		p = open("/")
		go func() {
			for range 150 {
				io.WriteString(p.Conn, masked(fin|text, "flood"))
			}
		}()
		p.closes(ws.StatusPolicyViolation)
		synctest.Wait()
	})
	serve(t, &ws.Handler{Broadcaster: hub, Topics: []string{"a"}}, func(t *testing.T, n *network) {
		p := n.raw("/", "")
		p.next()
		p.write(masked(fin|text, "hello"))
		p.closes(ws.StatusPolicyViolation)
		p = n.raw("/", "")
		p.next()
		p.write(unmasked(fin|text, "hello"))
		p.closes(ws.StatusProtocolError)
		p = n.raw("/", "")
		p.next()
		go io.WriteString(p.Conn, masked(fin|text, strings.Repeat("x", 40_000)))
		p.closes(ws.StatusMessageTooBig)
		synctest.Wait()
	})
}

func TestOneThatNeverReadsIsCutAndTheOthersDoNotNotice(t *testing.T) {
	hub := &broadcast.Hub{Keep: 8}
	var encoded atomic.Int32
	h := &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Logger: silent, Encode: func(m *broadcast.Message) (ws.MessageType, []byte, bool) {
		encoded.Add(1)
		return ws.Raw(m)
	}}
	serve(t, h, func(t *testing.T, n *network) {
		n.raw("/", "")
		var others []*peer
		for range 20 {
			others = append(others, n.raw("/", ""))
		}
		synctest.Wait()
		began := time.Now()
		for i := range 100 {
			say(t, hub, "a", fmt.Sprint(i))
			for _, p := range others {
				p.says(fmt.Sprint(i))
			}
			synctest.Wait()
		}
		require.Equal(t, began, time.Now(), "nobody has waited")
		require.EqualValues(t, 100, encoded.Load(), "once a message, however many get it")
		require.Equal(t, 21, hub.Stats().Subscriptions)
		require.LessOrEqual(t, hub.Stats().Messages, 8)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Equal(t, 20, hub.Stats().Subscriptions)
		for _, p := range others {
			p.Close()
		}
		synctest.Wait()
		require.Zero(t, hub.Stats().Subscriptions)
	})
}

func TestHandlerThatCannotWork(t *testing.T) {
	for name, h := range map[string]*ws.Handler{
		"Handler.Broadcaster is nil":             {Topics: []string{"a"}},
		"Handler has neither Topics nor Grant":   {Broadcaster: &broadcast.Hub{}},
		"the topic is empty":                     {Broadcaster: &broadcast.Hub{}, Topics: []string{""}},
		"Handler.Grant returned neither a Grant": {Broadcaster: &broadcast.Hub{}, Grant: func(*http.Request) (*fanfare.Grant, error) { return nil, nil }},
		"Handler.Grant returned a Grant without": {Broadcaster: &broadcast.Hub{}, Grant: func(*http.Request) (*fanfare.Grant, error) { return &fanfare.Grant{}, nil }},
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

// It has no meaning for WebSockets there.
func TestConnectOverHTTP1(t *testing.T) {
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

// A middleware that panics leaves no subscription behind.
func TestPanicInHijack(t *testing.T) {
	hub := &broadcast.Hub{}
	h := &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Logger: silent}
	serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(panics{w}, r) }), func(t *testing.T, n *network) {
		_, err := ws.Dial(t.Context(), "ws://memory/", &ws.DialOptions{HTTPClient: n.client})
		require.Error(t, err)
		synctest.Wait()
		require.Zero(t, hub.Stats().Subscriptions)
	})
}

// A server that begins to shut down calls whoever has asked by then.
func TestShutdownDuringGrant(t *testing.T) {
	hub := &broadcast.Hub{}
	serve(t, nil, func(t *testing.T, n *network) {
		gate := make(chan struct{})
		n.server.Handler = &ws.Handler{Broadcaster: hub, Logger: silent, Grant: func(*http.Request) (*fanfare.Grant, error) {
			<-gate
			return &fanfare.Grant{Topics: []string{"a"}}, nil
		}}
		go func() {
			synctest.Wait()
			go n.server.Shutdown(context.Background())
			time.Sleep(time.Second)
			close(gate)
		}()
		p := n.raw("/", "")
		p.next()
		p.SetReadDeadline(time.Now().Add(29 * time.Second))
		f, err := readFrame(p.r, false)
		assert.NoError(t, err)
		assert.Equal(t, fin|clos, int(f.first))
		p.Close()
		time.Sleep(10 * time.Second)
	})
}

// It is a handshake, and gets no stream.
func TestErrorHandlerOfAForeignOrigin(t *testing.T) {
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

type hijackable struct{ http.ResponseWriter }

func (hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, errors.New("no") }

type panics struct{ http.ResponseWriter }

func (panics) Hijack() (net.Conn, *bufio.ReadWriter, error) { panic("not a Hijacker") }

// A panic in Notice is told in the log, and not to the client.
func TestPanicInNotice(t *testing.T) {
	hub, log := &broadcast.Hub{}, &logbook{}
	h := &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Logger: log.logger(), Encode: ws.Raw,
		Notice: func(fanfare.Notice) (ws.MessageType, []byte, bool) { panic("in Notice") }}
	serve(t, h, func(t *testing.T, n *network) {
		p := n.raw("/", "")
		say(t, hub, "a", "hello")
		p.says("hello")
		require.Equal(t, 1, log.count("in Notice"))
		p.Close()
	})
}

func ExampleHandler() {
	var hub broadcast.Hub
	server := httptest.NewServer(&ws.Handler{
		Broadcaster: &hub,
		Topics:      []string{"room"},
		Receive: func(r *http.Request, c *ws.Conn) func(ws.MessageType, []byte) error {
			return func(_ ws.MessageType, data []byte) error {
				_, err := hub.Publish(c.Context(), broadcast.Message{Topic: "room", Data: data})
				return err
			}
		},
	})
	defer server.Close()

	ctx := context.Background()
	c, err := ws.Dial(ctx, server.URL, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close(ws.StatusNormalClosure, "")
	var frame struct{ Ready, Topic, Data string }
	c.ReadJSON(ctx, &frame)
	fmt.Println("ready:", frame.Ready != "")
	c.Write(ctx, ws.Text, []byte("hello, room"))
	c.ReadJSON(ctx, &frame)
	fmt.Println(frame.Topic, frame.Data)
	// Output:
	// ready: true
	// room hello, room
}

func ExampleRaw() {
	typ, data, _ := ws.Raw(&broadcast.Message{Topic: "prices", Data: []byte("42")})
	fmt.Println(typ == ws.Text, string(data))
	// Output: true 42
}

// A connection that answers each message, and keeps itself alive.
func ExampleUpgrade() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := ws.Upgrade(w, r, nil)
		if err != nil {
			return // the client has been answered
		}
		defer c.Close(ws.StatusNormalClosure, "")
		typ, data, err := c.Read(r.Context())
		if err != nil {
			return
		}
		c.Write(r.Context(), typ, append([]byte("you said "), data...))
	}))
	defer server.Close()

	c, err := ws.Dial(context.Background(), server.URL, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.CloseNow()
	c.Write(context.Background(), ws.Text, []byte("hello"))
	_, data, _ := c.Read(context.Background())
	fmt.Println(string(data))
	_, _, err = c.Read(context.Background())
	fmt.Println(ws.CloseStatus(err))
	// Output:
	// you said hello
	// 1000
}

func ExampleDial() {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	_, err := ws.Dial(context.Background(), server.URL, nil)
	var refused *ws.HandshakeError
	if errors.As(err, &refused) {
		fmt.Println("answered with", refused.Status)
	}
	// Output: answered with 404
}
