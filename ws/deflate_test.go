package ws_test

import (
	"compress/flate"
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/ws"
)

const rsv1Text = fin | rsv1 | text

// inflate undoes RFC 7692 section 7.2.1.
func inflate(t *testing.T, payload string) string {
	t.Helper()
	b, err := io.ReadAll(flate.NewReader(strings.NewReader(payload + "\x00\x00\xff\xff\x01\x00\x00\xff\xff")))
	require.NoError(t, err)
	return string(b)
}

// offer is a handshake that offers permessage-deflate.
func (n *network) offer(target, extensions string) (*peer, string) {
	n.t.Helper()
	conn, err := n.listener.DialContext(n.t.Context(), "", "")
	require.NoError(n.t, err)
	n.t.Cleanup(func() { conn.Close() })
	p := newPeer(n.t, conn)
	p.write("GET " + target + " HTTP/1.1\r\nHost: memory\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: " + extensions + "\r\n\r\n")
	response, err := http.ReadResponse(p.r, nil)
	require.NoError(n.t, err)
	require.Equal(n.t, http.StatusSwitchingProtocols, response.StatusCode)
	return p, response.Header.Get("Sec-WebSocket-Extensions")
}

// For all clients that have agreed to compression.
func TestHandlerDeflatesAMessageOnce(t *testing.T) {
	var hub broadcast.Hub
	var encoded atomic.Int32
	h := &ws.Handler{Broadcaster: &hub, Topics: []string{"a"}, Options: ws.Options{Compression: true}, Encode: func(m *broadcast.Message) (ws.MessageType, []byte, bool) {
		encoded.Add(1)
		return ws.Raw(m)
	}}
	serve(t, h, func(t *testing.T, n *network) {
		one, agreed := n.offer("/", "permessage-deflate; client_max_window_bits")
		require.Equal(t, "permessage-deflate; client_no_context_takeover; server_no_context_takeover", agreed)
		two, _ := n.offer("/", "permessage-deflate")
		plain := n.raw("/", "")

		long := strings.Repeat("all work and no play ", 100)
		say(t, &hub, "a", long)
		for _, p := range []*peer{one, two} {
			f := p.next()
			require.Equal(t, rsv1Text, int(f.first))
			require.Less(t, len(f.payload), 100)
			require.Equal(t, long, inflate(t, f.payload))
		}
		plain.receives(long)
		require.EqualValues(t, 2, encoded.Load(), "once deflated, once not")

		say(t, &hub, "a", "too short")
		one.receives("too short")
		one.write(masked(fin|clos, closing(1000, "")))
		one.closes(1000)
		two.Close()
		plain.Close()
	})
}

// If one side alone wants compression, there is none. TestConformance has what can be
// agreed on.
func TestCompressionNeedsBothSides(t *testing.T) {
	for offer, on := range map[string]bool{"": true, "permessage-deflate": false} {
		serve(t, upgraded(&ws.Options{Compression: on}, func(c *ws.Conn) { c.CloseRead(); <-c.Context().Done() }), func(t *testing.T, n *network) {
			p, agreed := n.offer("/", offer)
			require.Empty(t, agreed)
			p.Close()
		})
	}
}

// Messages of all sizes arrive unchanged, in both directions.
func TestCompressionBothWays(t *testing.T) {
	for _, size := range []int{0, 1, 511, 512, 5000, 1 << 20} {
		serve(t, upgraded(&ws.Options{Compression: true, MaxMessage: 2 << 20}, func(c *ws.Conn) {
			for {
				typ, b, err := c.Read(context.Background())
				if err != nil {
					return
				}
				assert.NoError(t, c.Write(context.Background(), typ, b))
			}
		}), func(t *testing.T, n *network) {
			c := n.dial("/", ws.Options{Compression: true, MaxMessage: 2 << 20})
			data := strings.Repeat("é and so on ", size/13+1)[:size-size%2]
			if size < 2 {
				data = strings.Repeat("x", size)
			}
			data = strings.ToValidUTF8(data, "?")
			for range 3 {
				require.NoError(t, c.Write(t.Context(), ws.Text, []byte(data)))
				_, got, err := c.Read(t.Context())
				require.NoError(t, err)
				require.Equal(t, data, string(got))
			}
			require.NoError(t, c.Close(ws.StatusNormalClosure, ""))
		})
	}
}

// A small message that inflates to more than MaxMessage is refused.
func TestMaxMessageCountsInflatedBytes(t *testing.T) {
	ended := make(chan error, 1)
	serve(t, upgraded(&ws.Options{Compression: true, MaxMessage: 100_000}, func(c *ws.Conn) {
		_, _, err := c.Read(context.Background())
		ended <- err
	}), func(t *testing.T, n *network) {
		var b strings.Builder
		w, err := flate.NewWriter(&b, flate.BestCompression)
		require.NoError(t, err)
		_, err = w.Write(make([]byte, 10<<20))
		require.NoError(t, err)
		require.NoError(t, w.Flush())
		bomb := strings.TrimSuffix(b.String(), "\x00\x00\xff\xff")
		require.Less(t, len(bomb), 20_000)
		p, _ := n.offer("/", "permessage-deflate")
		go io.WriteString(p.Conn, masked(fin|rsv1|bin, bomb))
		p.closes(1009)
		require.Equal(t, ws.StatusMessageTooBig, ws.CloseStatus(<-ended))
		p.Close()
		time.Sleep(time.Minute)
	})
}

// BenchmarkDeflate compares a broadcast that is deflated once with one that is deflated
// for each of a thousand connections, as context takeover requires.
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
