package endtoend_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// abused is a server with both handlers, detached and not.
func abused(t *testing.T) (*broadcast.Hub, *httptest.Server) {
	hub := new(broadcast.Hub)
	silent := slog.New(slog.DiscardHandler)
	mux := http.NewServeMux()
	grant := func(r *http.Request) (*broadcast.Grant, error) {
		return &broadcast.Grant{Topics: r.URL.Query()["topic"]}, nil
	}
	for path, detach := range map[string]bool{"/attached": false, "/detached": true} {
		mux.Handle(path+"/events", &sse.Handler{Broadcaster: hub, Grant: grant, Detach: detach, Logger: silent})
		mux.Handle(path+"/ws", &ws.Handler{Broadcaster: hub, Grant: grant, Detach: detach, Logger: silent})
	}
	server := httptest.NewUnstartedServer(mux)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	server.Config.ReadHeaderTimeout = time.Second
	server.Start()
	t.Cleanup(server.Close)
	return hub, server
}

// request says what opens a stream.
func request(path string) string {
	upgrade := ""
	if strings.Contains(path, "/ws") {
		upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	}
	return "GET " + path + " HTTP/1.1\r\nHost: x\r\n" + upgrade + "\r\n"
}

// TestConnectsAndDisconnects has clients that come and are gone, most without a word, and
// looks at what is left of them.
func TestConnectsAndDisconnects(t *testing.T) {
	hub, server := abused(t)
	address := server.Listener.Addr().String()
	before := runtime.NumGoroutine()
	const each = 500
	paths := []string{"/attached/events?topic=a", "/detached/events?topic=a", "/attached/ws?topic=a", "/detached/ws?topic=a"}
	var all sync.WaitGroup
	for _, path := range paths {
		all.Go(func() {
			for i := range each {
				c, err := net.Dial("tcp", address)
				if !assert.NoError(t, err) {
					return
				}
				_, _ = io.WriteString(c, request(path))
				switch i % 4 {
				case 0: // gone before the answer
				case 1: // without a word
					_, _ = bufio.NewReader(c).ReadString('\n')
					_ = c.(*net.TCPConn).SetLinger(0)
				case 2: // in the middle of what is no frame
					_, _ = bufio.NewReader(c).ReadString('\n')
					_, _ = io.WriteString(c, "\x81\xff\x00")
				case 3: // with half a request for more
					_, _ = io.WriteString(c, "GET /attached/events?top")
				}
				_ = c.Close()
			}
		})
	}
	all.Wait()
	// A detached event stream finds out when it writes.
	require.Eventually(t, func() bool {
		_, err := hub.Publish(t.Context(), broadcast.Message{Topic: "a", Data: []byte("is anybody there")})
		return err == nil && hub.Stats().Subscriptions == 0
	}, 20*time.Second, 20*time.Millisecond, "subscriptions are left")
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+2 }, 20*time.Second, 20*time.Millisecond, "goroutines are left")
}

// TestAskingForTooMuch is about requests that are larger than anybody needs.
func TestAskingForTooMuch(t *testing.T) {
	hub, server := abused(t)
	for _, test := range []struct {
		name, query, header string
		status              int
	}{
		{"10,000 topics", "?topic=" + strings.Join(strings.Split(strings.Repeat("x", 10_000), ""), "&topic="), "", 500}, // even if they are one and the same
		{"10,000 different topics", "?" + different(10_000), "", 500},
		{"a topic of a kilobyte", "?topic=" + strings.Repeat("x", 1024), "", 500},
		{"a topic with a line break", "?topic=a%0Ab", "", 500},
		{"a position of 64 KiB", "?topic=a", strings.Repeat("9", 64<<10), 200}, // is no ID: a gap
		{"a position of 2 MiB", "?topic=a", strings.Repeat("9", 2<<20), 431},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := http.NewRequest("GET", server.URL+"/attached/events"+test.query, nil)
			require.NoError(t, err)
			r.Header.Set("Last-Event-ID", test.header)
			response, err := server.Client().Do(r)
			require.NoError(t, err)
			defer response.Body.Close()
			require.Equal(t, test.status, response.StatusCode)
			if test.status == 200 && test.header != "" {
				begin := make([]byte, 64)
				_, err := io.ReadFull(response.Body, begin)
				require.NoError(t, err)
				require.Contains(t, string(begin), "event: gap")
			}
		})
	}
	require.Eventually(t, func() bool { return hub.Stats().Subscriptions == 0 }, 20*time.Second, 20*time.Millisecond)
}

func different(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "topic=%d&", i)
	}
	return b.String()
}

// TestPingFlood pings without end and reads nothing: it costs no memory, and the others
// nothing.
func TestPingFlood(t *testing.T) {
	hub, server := abused(t)
	other, err := ws.Dial(t.Context(), server.URL+"/detached/ws?topic=a", nil)
	require.NoError(t, err)
	defer other.CloseNow()
	c, err := net.Dial("tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, request("/detached/ws?topic=a"))
	require.NoError(t, err)
	ping := []byte("\x89\xfd\x00\x00\x00\x00" + strings.Repeat("p", 125))
	flood := make([]byte, 0, 1000*len(ping))
	for range 1000 {
		flood = append(flood, ping...)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	require.NoError(t, c.SetWriteDeadline(time.Now().Add(5*time.Second)))
	for range 200 {
		if _, err := c.Write(flood); err != nil {
			break // cut, or held up by a server that writes to nobody
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	require.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(4<<20))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = hub.Publish(ctx, broadcast.Message{Topic: "a", Data: []byte("to the others")})
	require.NoError(t, err)
	for {
		_, frame, err := other.Read(ctx)
		require.NoError(t, err, "the others do not notice")
		if strings.Contains(string(frame), "to the others") {
			break
		}
	}
}

// TestSlowHandshake sends a request a byte at a time: http.Server's ReadHeaderTimeout is what
// ends that.
func TestSlowHandshake(t *testing.T) {
	_, server := abused(t)
	c, err := net.Dial("tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, request("/attached/ws?topic=a")[:40])
	require.NoError(t, err)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
	answer, err := io.ReadAll(c)
	require.NoError(t, err, "it is closed")
	require.NotContains(t, string(answer), "101")
}
