package ws_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/longtest"
	"github.com/fanfare-go/fanfare/ws"
)

// Messages reach all other clients at once, and are encoded once.
func TestAClientThatDoesNotReadIsCutAndDelaysNoOther(t *testing.T) {
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
				p.receives(fmt.Sprint(i))
			}
			synctest.Wait()
		}
		require.Equal(t, began, time.Now(), "no client has waited")
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

// Also if half of them send pings without end.
func TestClientsThatDoNotReadDelayNoOtherOverTCP(t *testing.T) {
	longtest.Only(t)
	var hub broadcast.Hub
	server := httptest.NewServer(&ws.Handler{Broadcaster: &hub, Topics: []string{"a"}, Detach: true, Encode: ws.Raw, Logger: silent,
		Options: ws.Options{WriteTimeout: 30 * time.Second}})
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
	var pinging []net.Conn
	for i := range 20 {
		c := connect()
		_ = c.(*net.TCPConn).SetReadBuffer(4096)
		if i%2 == 0 {
			pinging = append(pinging, c)
		}
	}
	reader, err := ws.Dial(context.Background(), server.URL, nil)
	require.NoError(t, err)
	defer reader.CloseNow()
	require.Eventually(t, func() bool { return hub.Stats().Subscriptions == 21 }, 5*time.Second, time.Millisecond)
	for _, c := range pinging { // from now on: the pongs alone fill the buffers, and these are cut first
		go io.Copy(c, pings{})
	}

	// Buffers fill up, and writes begin to block.
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
	assert.Less(t, slowest, 15*time.Second, "half a WriteTimeout")
}

// pings is an endless stream of pings.
type pings struct{}

func (pings) Read(p []byte) (int, error) {
	frame := masked(fin|ping, strings.Repeat("p", 100))
	n := 0
	for n+len(frame) <= len(p) {
		n += copy(p[n:], frame)
	}
	return n, nil
}
