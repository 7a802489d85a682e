package proxies_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
	"github.com/fanfare-go/fanfare/internal/leak"
	"github.com/fanfare-go/fanfare/internal/longtest"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

func TestMain(m *testing.M) { leak.Main(m) }

// soon is the longest that a message may take through a proxy that does not buffer it. A
// proxy that does keeps it until more arrives, which never happens here.
const soon = 900 * time.Millisecond

// long is how long a test waits for what must happen, on a slow machine.
const long = 15 * time.Second

// within returns a context that ends after d.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// open opens an event stream and returns its response.
func open(t *testing.T, ctx context.Context, client *http.Client, url string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	require.NoError(t, err)
	r.Header.Set("Accept", "text/event-stream")
	response, err := client.Do(r)
	require.NoError(t, err)
	t.Cleanup(func() { _ = response.Body.Close() })
	require.Equal(t, http.StatusOK, response.StatusCode)
	return response
}

// dial opens a WebSocket as a page of the public host does.
func dial(t *testing.T, client *http.Client, base, path string) *ws.Conn {
	t.Helper()
	conn, err := ws.Dial(within(t, long), base+path, &ws.DialOptions{
		HTTPClient: client,
		Header:     http.Header{"Origin": {base}},
		Options:    ws.Options{PingInterval: -1}, // only the server pings
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.CloseNow() })
	_, ready, err := conn.Read(within(t, long))
	require.NoError(t, err)
	require.Contains(t, string(ready), `"ready"`)
	return conn
}

// Each message arrives at once, although nothing follows it.
func TestSSEArrivesAtOnce(t *testing.T) {
	each(t, func(t *testing.T, p program) {
		for _, test := range []struct {
			name     string
			edits    []edit
			encoding string
			holds    bool
		}{
			{"as recommended", nil, "", false},
			{"gzip for all text", p.gzip, p.encoding, p.holds},
		} {
			t.Run(test.name, func(t *testing.T) {
				b := newBackend(t, nil, new(middleware.Drain))
				proxy := start(t, p, b.address, b.address, test.edits)
				client := proxy.client(t)
				ctx := within(t, long)
				require.Equal(t, "gzip", encoding(open(t, ctx, client, public+"/style.css")), "the proxy compresses")
				// The stream resumes, so that its first write is large enough to be compressed.
				begin, err := b.hub.Position(ctx)
				require.NoError(t, err)
				const missed = 50
				for range missed {
					b.publish(t, "a message that was published before the stream began")
				}
				response := open(t, ctx, client, public+"/events?lastEventId="+begin.String())
				assert.Equal(t, test.encoding, encoding(response))
				events := sse.NewReader(response.Body)
				if test.holds {
					timer := time.AfterFunc(soon, func() { _ = response.Body.Close() })
					defer timer.Stop()
					_, err := events.Read()
					require.Error(t, err, "the proxy buffers streams, as docs/proxies says")
					return
				}
				for range missed {
					_, err := events.Read()
					require.NoError(t, err)
				}
				var took []time.Duration
				for i := range 5 {
					began := time.Now()
					b.publish(t, fmt.Sprint(i))
					event, err := events.Read()
					require.NoError(t, err)
					assert.Equal(t, fmt.Sprint(i), string(event.Data))
					took = append(took, time.Since(began))
				}
				t.Log(took)
				assert.Less(t, slices.Max(took), soon)
				// The fastest excludes a proxy that waits to fill a packet, as haproxy does for
				// 0.2 s without http-no-delay. A slow machine does not slow down each of them.
				assert.Less(t, slices.Min(took), 100*time.Millisecond)
			})
		}
	})
}

// encoding returns the Content-Encoding of a response. net/http asks for gzip by itself, and
// then removes the header.
func encoding(response *http.Response) string {
	if response.Uncompressed {
		return "gzip"
	}
	return response.Header.Get("Content-Encoding")
}

// Pages of the public host can open WebSockets, over plain HTTP and over TLS that ends at the
// proxy. Pages of another host are refused.
func TestWebSocketsOfTheSameHostOnly(t *testing.T) {
	each(t, func(t *testing.T, p program) {
		b := newBackend(t, nil, &middleware.Drain{Spread: -1})
		proxy := start(t, p, b.address, b.address)
		client := proxy.client(t)
		_, err := ws.Dial(within(t, long), public+"/ws", &ws.DialOptions{HTTPClient: client, Header: http.Header{"Origin": {"http://evil.example"}}})
		var refused *ws.HandshakeError
		require.ErrorAs(t, err, &refused)
		assert.Equal(t, http.StatusForbidden, refused.Status)

		var conns []*ws.Conn
		for _, base := range []string{public, publicSecure} {
			conn := dial(t, client, base, "/ws")
			conns = append(conns, conn)
			began := time.Now()
			require.NoError(t, conn.Write(within(t, long), ws.Text, []byte("to the server and back")))
			_, data, err := conn.Read(within(t, long))
			require.NoError(t, err)
			assert.Equal(t, "to the server and back", string(data))
			assert.Less(t, time.Since(began), soon)
		}
		b.publish(t, "hello")
		for _, conn := range conns {
			_, data, err := conn.Read(within(t, long))
			require.NoError(t, err)
			var message struct{ Data string }
			require.NoError(t, json.Unmarshal(data, &message))
			assert.Equal(t, "hello", message.Data)
		}
		ended := make(chan error, 1)
		go func() { ended <- b.drain.Shutdown(within(t, long)) }()
		for _, conn := range conns {
			_, _, err := conn.Read(within(t, long))
			assert.Equal(t, ws.StatusServiceRestart, ws.CloseStatus(err), "%v", err)
		}
		require.NoError(t, <-ended)
	})
}

// Without the Host line of nginx.conf the server refuses pages of the public host. The other
// proxies pass the host on by themselves.
func TestNginxNeedsTheHostLine(t *testing.T) {
	nginx := installed(t, programs[0])
	b := newBackend(t, nil, new(middleware.Drain))
	proxy := start(t, nginx, b.address, b.address, []edit{{"proxy_set_header Host $http_host;", ""}})
	_, err := ws.Dial(within(t, long), public+"/ws", &ws.DialOptions{HTTPClient: proxy.client(t), Header: http.Header{"Origin": {public}}})
	var refused *ws.HandshakeError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, http.StatusForbidden, refused.Status)
}

// With http_429 in proxy_next_upstream and without max_fails=0, nginx sends a server that answers
// 429 once no request of any client for ten seconds. The recommended configuration does not.
func TestNginxMustNotRetryAfter429(t *testing.T) {
	nginx := installed(t, programs[0])
	for _, test := range []struct {
		name    string
		edits   []edit
		servers int
	}{
		{"as recommended", nil, 2},
		{"with http_429", []edit{{"http_503;", "http_503 http_429;"}, {" max_fails=0", ""}}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			var addresses []string
			for i := range 2 {
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/greedy" {
						w.WriteHeader(http.StatusTooManyRequests)
					}
					_, _ = fmt.Fprint(w, i)
				}))
				t.Cleanup(server.Close)
				addresses = append(addresses, server.Listener.Addr().String())
			}
			proxy := start(t, nginx, addresses[0], addresses[1], test.edits)
			client := proxy.client(t)
			get := func(path string) (int, string) {
				response, err := client.Get(public + path)
				require.NoError(t, err)
				defer func() { _ = response.Body.Close() }()
				body, err := io.ReadAll(response.Body)
				require.NoError(t, err)
				return response.StatusCode, string(body)
			}
			status, _ := get("/greedy")
			require.Equal(t, http.StatusTooManyRequests, status)
			seen := make(map[string]bool)
			for range 10 {
				status, server := get("/modest")
				require.Equal(t, http.StatusOK, status)
				seen[server] = true
			}
			assert.Len(t, seen, test.servers)
		})
	}
}

// statusOf sends a request whose response is read no further than its status until the test ends.
func statusOf(t *testing.T, client *http.Client, path string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(within(t, long), http.MethodGet, public+path, nil)
	require.NoError(t, err)
	response, err := client.Do(r)
	require.NoError(t, err)
	t.Cleanup(func() { _ = response.Body.Close() })
	return response.StatusCode
}

// A server that was away gets streams as soon as it is back, also if it is the only one. By
// default nginx tries it with one request in each fail_timeout until one has ended, which a
// stream does not.
func TestNginxReturnsToARestartedServer(t *testing.T) {
	nginx := installed(t, programs[0])
	const streams = 5
	for _, test := range []struct {
		name     string
		edits    []edit
		accepted int
	}{
		{"as recommended", nil, streams},
		{"with max_fails of 1", []edit{{"max_fails=0", "max_fails=1 fail_timeout=2s"}}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.edits != nil {
				longtest.Only(t)
			}
			mux := http.NewServeMux()
			mux.Handle("GET /events", &sse.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"news"}, Logger: silent})
			mux.HandleFunc("GET /ready", func(http.ResponseWriter, *http.Request) {})
			serve := func(address string) *httptest.Server {
				listener, err := net.Listen("tcp", address)
				require.NoError(t, err)
				server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: mux}}
				server.Start()
				t.Cleanup(server.Close)
				return server
			}
			server, other := serve("127.0.0.1:0"), serve("127.0.0.1:0")
			address := server.Listener.Addr().String()
			proxy := start(t, nginx, address, other.Listener.Addr().String(), test.edits)
			client := proxy.client(t)
			other.Close()
			server.Close()
			require.Equal(t, http.StatusBadGateway, statusOf(t, client, "/ready"))

			serve(address)
			if test.edits != nil {
				<-time.After(3 * time.Second) // fail_timeout, of nginx's clock
			}
			accepted := 0
			for range streams {
				if statusOf(t, client, "/events") == http.StatusOK {
					accepted++
				}
			}
			assert.Equal(t, test.accepted, accepted)
		})
	}
}

// A proxy that cuts idle connections after a second cuts a stream without heartbeats, and
// keeps one with them.
func TestHeartbeatsKeepIdleStreams(t *testing.T) {
	const enough = 12 // heartbeats of 250 ms each, three times what the proxy allows
	each(t, func(t *testing.T, p program) {
		b := newBackend(t, nil, new(middleware.Drain))
		proxy := start(t, p, b.address, b.address, p.idle)
		client := proxy.client(t)
		ctx := within(t, long)

		var sseMuteEnded, wsMuteEnded, sseQuickEnded, wsQuickEnded atomic.Bool
		var heartbeats atomic.Int64
		var got sync.Map
		var reading sync.WaitGroup
		began := time.Now()
		mute := open(t, ctx, client, public+"/mute/events")
		reading.Go(func() {
			_, _ = io.Copy(io.Discard, mute.Body)
			sseMuteEnded.Store(true)
		})
		muteConn := dial(t, client, public, "/mute/ws")
		reading.Go(func() {
			_, _, _ = muteConn.Read(ctx)
			wsMuteEnded.Store(true)
		})
		quick := open(t, ctx, client, public+"/quick/events")
		reading.Go(func() {
			for lines := bufio.NewScanner(quick.Body); lines.Scan(); {
				switch line := lines.Text(); line {
				case ":":
					heartbeats.Add(1)
				case "data: still here":
					got.Store("sse", true)
				}
			}
			sseQuickEnded.Store(true)
		})
		quickConn := dial(t, client, public, "/quick/ws")
		reading.Go(func() {
			for {
				_, data, err := quickConn.Read(ctx)
				if err != nil {
					wsQuickEnded.Store(true)
					return
				}
				var message struct{ Data string }
				if json.Unmarshal(data, &message) == nil && message.Data == "still here" {
					got.Store("ws", true)
				}
			}
		})

		require.Eventually(t, func() bool { return sseMuteEnded.Load() && wsMuteEnded.Load() }, long, 10*time.Millisecond,
			"silent streams go on: SSE ended %v, WebSocket ended %v", &sseMuteEnded, &wsMuteEnded)
		require.Less(t, time.Since(began), long-time.Second, "the proxy ended them, not the test")
		require.Eventually(t, func() bool { return heartbeats.Load() >= enough || sseQuickEnded.Load() }, long, 10*time.Millisecond)
		require.False(t, sseQuickEnded.Load(), "heartbeats keep the event stream")
		require.False(t, wsQuickEnded.Load(), "pings keep the WebSocket")
		b.publish(t, "still here")
		require.Eventually(t, func() bool {
			_, one := got.Load("sse")
			_, other := got.Load("ws")
			return one && other
		}, long, 10*time.Millisecond, "a stream that lived on gets nothing")
		_ = quick.Body.Close()
		_ = quickConn.CloseNow()
		reading.Wait()
	})
}

// While one of two servers is drained, its clients move to the other through the proxy and
// get each message once.
func TestDrainMovesClientsToTheOtherServer(t *testing.T) {
	const clients = 4 // on each transport
	each(t, func(t *testing.T, p program) {
		var journal broadcasttest.Journal
		drain := &middleware.Drain{Spread: 300 * time.Millisecond, Plain: true}
		if !p.nextTry {
			drain.Delay = time.Second // ten times the interval of the proxy's health checks
		}
		leaving := newBackend(t, journal.Node(), drain)
		staying := newBackend(t, journal.Node(), new(middleware.Drain))
		proxy := start(t, p, leaving.address, staying.address, p.checks)

		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		begin, err := leaving.hub.Position(ctx)
		require.NoError(t, err)
		received := make([]receiver, 2*clients)
		var receiving sync.WaitGroup
		for i := range received {
			r := &received[i]
			http1 := proxy.client(t)
			if i < clients {
				request, err := http.NewRequestWithContext(ctx, http.MethodGet, public+"/events", nil)
				require.NoError(t, err)
				request.Header.Set("Last-Event-ID", begin.String())
				// The client has no Retry: a 503 that got through would end it.
				client := &sse.Client{HTTPClient: http1, MaxBackoff: time.Second, Logger: silent}
				receiving.Go(func() {
					for event, err := range client.Events(request) {
						r.add(event.Type+string(event.Data), err)
					}
				})
				continue
			}
			client := &ws.Client{URL: public + "/ws", After: begin, MaxBackoff: time.Second, Logger: silent,
				Dial: ws.DialOptions{HTTPClient: http1, Header: http.Header{"Origin": {public}}}}
			receiving.Go(func() {
				for message, err := range client.Messages(ctx) {
					if err != nil {
						r.add("", err)
						continue
					}
					r.add(string(message.Data), nil)
				}
			})
		}
		require.Eventually(t, func() bool { return leaving.streams.Load()+staying.streams.Load() == 2*clients }, long, time.Millisecond)
		moving := leaving.streams.Load()
		require.Positive(t, moving, "no stream is on the server that is drained")

		// Messages flow on both servers, before the drain, during it and after it.
		published := 0
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		flow := func(until func() bool) {
			for !until() {
				<-tick.C
				hub := staying.hub
				if published%2 == 0 {
					hub = leaving.hub
				}
				published++
				_, err := hub.Publish(ctx, newsMessage(published))
				require.NoError(t, err)
			}
		}
		flow(func() bool { return published >= 50 })
		ended := make(chan error, 1)
		go func() { ended <- drain.Shutdown(within(t, long)) }()
		var drained bool
		flow(func() bool {
			select {
			case err := <-ended:
				require.NoError(t, err)
				drained = true
			default:
			}
			return drained && staying.streams.Load() == 2*clients || t.Context().Err() != nil || published > 10_000
		})
		for target := published + 50; published < target; {
			flow(func() bool { return published >= target })
		}
		for i := range received {
			require.Eventually(t, func() bool { return received[i].has(strconv.Itoa(published)) }, long, 10*time.Millisecond,
				"client %d never got the last one: %v", i, &received[i])
		}
		assert.Zero(t, leaving.streams.Load())
		cancel()
		receiving.Wait()

		want := make([]string, published)
		for i := range want {
			want[i] = strconv.Itoa(i + 1)
		}
		for i := range received {
			assert.True(t, slices.Equal(want, received[i].all), "client %d did not get each message once and in order: %v", i, &received[i])
		}
		if p.nextTry {
			assert.Positive(t, leaving.refused.n.Load(), "no request was refused, so the proxy had no need to try the other server")
		} else {
			assert.Zero(t, leaving.refused.n.Load(), "the proxy notices within Delay, before a request is refused")
		}
		t.Logf("%d messages, %d of %d streams moved, %d requests were refused by the first server", published, moving, 2*clients, leaving.refused.n.Load())
	})
}

// receiver is what one client received.
type receiver struct {
	mu  sync.Mutex
	all []string
}

func (r *receiver) add(data string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		if !isCancelled(err) {
			r.all = append(r.all, "error: "+err.Error())
		}
		return
	}
	r.all = append(r.all, data)
}

func (r *receiver) has(data string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.all, data)
}

// String shows where the sequence of numbers breaks.
func (r *receiver) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, data := range r.all {
		if data != strconv.Itoa(i+1) {
			return fmt.Sprintf("%d entries, and where %d should be: %q", len(r.all), i+1, r.all[i:min(len(r.all), i+5)])
		}
	}
	return fmt.Sprintf("%d entries, in order", len(r.all))
}

// A proxy without a server sends an EventSource a retry time, because it would give up for
// good after an error. Other clients get the error.
func TestAnEventSourceRetriesWithoutServers(t *testing.T) {
	each(t, func(t *testing.T, p program) {
		if p.name == "caddy" {
			longtest.Only(t) // it tries for ten seconds
		}
		server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})) // it only answers /ready
		defer server.Close()
		address := server.Listener.Addr().String()
		client := start(t, p, address, address, p.checks).client(t)
		server.Close()
		answer := func(accept, cacheControl string) (int, string) {
			r, err := http.NewRequestWithContext(within(t, long), http.MethodGet, public+"/events", nil)
			require.NoError(t, err)
			r.Header.Set("Accept", accept)
			r.Header.Set("Cache-Control", cacheControl)
			response, err := client.Do(r)
			require.NoError(t, err)
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			require.NoError(t, err)
			return response.StatusCode, response.Header.Get("Content-Type") + "\n" + string(body)
		}
		var status int
		var body string
		require.Eventually(t, func() bool { // some proxies notice only after a while
			status, body = answer("text/event-stream", "no-cache")
			return status == http.StatusOK
		}, long, 50*time.Millisecond, "status %d", status)
		require.Equal(t, "text/event-stream\nretry: 2000\n\n", body)
		status, _ = answer("*/*", "no-cache")
		require.GreaterOrEqual(t, status, 500)
		status, _ = answer("text/event-stream", "no-store")
		require.GreaterOrEqual(t, status, 500)
	})
}

// Over HTTP/2 one connection carries more streams than a browser opens connections.
func TestHTTP2CarriesManyStreams(t *testing.T) {
	const streams = 20
	each(t, func(t *testing.T, p program) {
		b := newBackend(t, nil, new(middleware.Drain))
		proxy := start(t, p, b.address, b.address)
		var dialed atomic.Int64
		transport := proxy.transport(t, &dialed)
		transport.ForceAttemptHTTP2 = true
		client := &http.Client{Transport: transport}
		ctx := within(t, long)
		var events []*sse.Reader
		for range streams { // one after the other, so that they share the connection
			response := open(t, ctx, client, publicSecure+"/events")
			require.Equal(t, 2, response.ProtoMajor)
			events = append(events, sse.NewReader(response.Body))
		}
		began := time.Now()
		b.publish(t, "hello")
		for _, e := range events {
			event, err := e.Read()
			require.NoError(t, err)
			assert.Equal(t, "hello", string(event.Data))
		}
		assert.Less(t, time.Since(began), soon)
		assert.EqualValues(t, 1, dialed.Load())
		assert.EqualValues(t, streams, b.streams.Load())
	})
}

// Long polling works through a proxy that buffers each response until it has ended.
func TestLongPollingThroughABufferingProxy(t *testing.T) {
	each(t, func(t *testing.T, p program) {
		b := newBackend(t, nil, new(middleware.Drain))
		proxy := start(t, p, b.address, b.address, p.buffer)
		client := proxy.client(t)
		ctx, cancel := context.WithTimeout(t.Context(), long)
		defer cancel()

		// A stream through the same proxy gets no message, which proves that the proxy
		// buffers. It may get its beginning: nginx passes on what arrives with the header.
		var messages atomic.Int64
		var streaming sync.WaitGroup
		streaming.Go(func() {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, public+"/events", nil)
			if !assert.NoError(t, err) {
				return
			}
			response, err := client.Do(r)
			if err != nil {
				return // the header was buffered too
			}
			defer func() { _ = response.Body.Close() }()
			for lines := bufio.NewScanner(response.Body); lines.Scan(); {
				if strings.HasPrefix(lines.Text(), "data:") {
					messages.Add(1)
				}
			}
		})
		defer streaming.Wait()
		defer cancel()
		require.Eventually(t, func() bool { return b.streams.Load() == 1 }, long, time.Millisecond)

		// The first poll has no position, and gets one at once.
		began := time.Now()
		events := sse.NewReader(open(t, ctx, client, public+"/events?poll=1").Body)
		_, err := events.Read()
		require.ErrorIs(t, err, io.EOF)
		position := events.LastEventID()
		require.NotEmpty(t, position)
		for i := range 3 {
			if i == 1 { // published between two polls
				b.publish(t, fmt.Sprint(i))
			}
			polled := make(chan sse.Event, 1)
			go func() {
				defer close(polled)
				r, err := http.NewRequestWithContext(ctx, http.MethodGet, public+"/events?poll=1", nil)
				if !assert.NoError(t, err) {
					return
				}
				r.Header.Set("Last-Event-ID", position)
				response, err := client.Do(r)
				if !assert.NoError(t, err) {
					return
				}
				defer func() { _ = response.Body.Close() }()
				event, err := sse.NewReader(response.Body).Read()
				if assert.NoError(t, err) {
					polled <- event
				}
			}()
			if i != 1 { // published while a poll waits
				require.Eventually(t, func() bool { return b.streams.Load() == 2 }, long, time.Millisecond)
				b.publish(t, fmt.Sprint(i))
			}
			event := <-polled
			require.Equal(t, fmt.Sprint(i), string(event.Data))
			position = event.ID
		}
		assert.Less(t, time.Since(began), long-time.Second)
		assert.Zero(t, messages.Load(), "messages on a stream through the proxy")
	})
}

func newsMessage(n int) broadcast.Message {
	return broadcast.Message{Topic: "news", Data: strconv.AppendInt(nil, int64(n), 10)}
}

func isCancelled(err error) bool { return errors.Is(err, context.Canceled) }
