package ws_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/ws"
)

// TestNobodyWaitsForAnother has clients over TCP that do not read, of whom some ping
// without end: whoever does read gets each message at once.
func TestNobodyWaitsForAnother(t *testing.T) {
	var hub broadcast.Hub
	server := httptest.NewServer(&ws.Handler{Broadcaster: &hub, Topics: []string{"a"}, Detach: true, Encode: ws.Raw, Logger: silent,
		Options: ws.Options{WriteTimeout: 2 * time.Second}})
	defer hub.Close()
	defer server.Close()
	connect := func() net.Conn {
		c, err := net.Dial("tcp", server.Listener.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+server.Listener.Addr().String()+"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
		require.NoError(t, err)
		_, err = io.ReadFull(c, make([]byte, 100))
		require.NoError(t, err)
		return c
	}
	for i := range 20 {
		c := connect()
		_ = c.(*net.TCPConn).SetReadBuffer(4096)
		if i%2 == 0 {
			go io.Copy(c, pings{})
		}
	}
	reader, err := ws.Dial(context.Background(), server.URL, nil)
	require.NoError(t, err)
	defer reader.CloseNow()
	require.Eventually(t, func() bool { return hub.Stats().Subscriptions == 21 }, 5*time.Second, time.Millisecond)

	// Sockets fill up, and writers begin to wait in them.
	var slowest time.Duration
	for i := range 200 {
		began := time.Now()
		text := fmt.Sprint(i, " ", strings.Repeat("x", 20_000))
		say(t, &hub, "a", text)
		_, data, err := reader.Read(context.Background())
		require.NoError(t, err)
		require.Equal(t, text, string(data))
		slowest = max(slowest, time.Since(began))
	}
	t.Logf("the slowest took %v", slowest)
	assert.Less(t, slowest, time.Second, "less than half a WriteTimeout, for which somebody else waits")
}

// pings is an endless stream of them.
type pings struct{}

func (pings) Read(p []byte) (int, error) {
	frame := masked(fin|ping, strings.Repeat("p", 100))
	n := 0
	for n+len(frame) <= len(p) {
		n += copy(p[n:], frame)
	}
	return n, nil
}

// BenchmarkDeflate compares what a broadcast costs that is deflated once with one that is
// deflated for each of a thousand connections, as one with context takeover has to.
func BenchmarkDeflate(b *testing.B) {
	const clients = 1000
	data := []byte(strings.Repeat(`{"symbol":"ACME","price":42.17,"at":"2026-01-02T03:04:05Z"},`, 17))
	for name, each := range map[string]int{"once for all": 1, "for each": clients} {
		b.Run(name, func(b *testing.B) {
			var d ws.Deflater
			for b.Loop() {
				for range each {
					d.AppendFrame(nil, data)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/clients, "ns/delivery")
		})
	}
}
