package abuse_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/longtest"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// The wire forms that a handler keeps have one bound together, whatever forms its clients
// choose, and are released with the last client of a form.
func TestWireFormsHaveOneBound(t *testing.T) {
	const mib = 1 << 20
	for _, kind := range []string{"events", "ws"} {
		for _, test := range []struct {
			name    string
			bytes   int // CacheBytes
			message int
			most    int64 // of the heap
			long    bool
		}{
			{"by default", 0, 64 << 10, 16 * mib, false},
			{"small messages", 0, 500, 16 * mib, true},
			{"a smaller one", 2 * mib, 64 << 10, 2 * mib, true},
			{"none", -1, 64 << 10, 0, false},
		} {
			t.Run(kind+" "+test.name, func(t *testing.T) {
				if test.long {
					longtest.Only(t)
				}
				hub := &broadcast.Hub{Keep: 2000, KeepBytes: mib}
				grant := func(*http.Request) (*fanfare.Grant, error) {
					return &fanfare.Grant{Topics: []string{"a"}, Last: 1000}, nil
				}
				var h http.Handler = &sse.Handler{Broadcaster: hub, Grant: grant, Detach: true, CacheBytes: test.bytes}
				if kind == "ws" {
					h = &ws.Handler{Broadcaster: hub, Grant: grant, Detach: true, CacheBytes: test.bytes, Options: ws.Options{Compression: true}}
				}
				server := httptest.NewServer(h)
				defer server.Close()
				defer server.CloseClientConnections() // also where the test fails
				defer hub.Close()
				connect := func(target, version string, header ...string) io.Closer {
					c, err := net.Dial("tcp", server.Listener.Addr().String())
					require.NoError(t, err)
					subscriptions := hub.Stats().Subscriptions
					text := request(target, header...)
					text = text[:len("GET ")+len(target)] + " " + version + text[len("GET ")+len(target)+len(" HTTP/1.1"):]
					_, err = io.WriteString(c, text)
					require.NoError(t, err)
					go io.Copy(io.Discard, c)
					require.Eventually(t, func() bool { return hub.Stats().Subscriptions > subscriptions }, 10*time.Second, time.Millisecond)
					return c
				}
				clients := func() (all []io.Closer) {
					if kind == "ws" {
						return []io.Closer{connect("/ws", "HTTP/1.1"), connect("/ws", "HTTP/1.1", "Sec-WebSocket-Extensions: permessage-deflate")}
					}
					return []io.Closer{connect("/", "HTTP/1.1"), connect("/?envelope=1", "HTTP/1.1"), connect("/", "HTTP/1.0"), connect("/?envelope=1", "HTTP/1.0")}
				}
				turnover := 400 // in large messages far more than any bound
				if longtest.Enabled() {
					turnover = 1000
				}
				random := make([]byte, test.message)
				for i := range random {
					random[i] = ' ' + byte(i*i*31%89)
				}
				publish := func(n int) {
					for range n {
						_, err := hub.Publish(t.Context(), broadcast.Message{Topic: "a", Data: bytes.Clone(random)})
						require.NoError(t, err)
						<-time.After(100 * time.Microsecond) // the clients keep up
					}
					require.Eventually(t, func() bool { return statsOf(h).Behind == 0 }, 10*time.Second, time.Millisecond)
				}
				publish(turnover * 6 / 5) // the Hub keeps what it may
				first := clients()
				for _, c := range first {
					c.Close()
				}
				require.Eventually(t, func() bool { publish(1); return hub.Stats().Subscriptions == 0 }, 20*time.Second, time.Millisecond)
				before := inUse()

				open := clients()
				publish(turnover)
				late := clients()                   // get messages without IDs, too
				require.Eventually(t, func() bool { // what is being written is pinned, and kept by nobody
					stats := statsOf(h)
					return stats.Open == len(open)+len(late) && stats.Behind == 0
				}, 20*time.Second, time.Millisecond)
				used := inUse() - before
				t.Logf("%d KiB of heap for the forms and %d clients", used>>10, len(open)+len(late))
				require.LessOrEqual(t, used, test.most+test.most/8+3*mib)

				for _, c := range append(open, late...) {
					c.Close()
				}
				require.Eventually(t, func() bool { publish(1); return hub.Stats().Subscriptions == 0 }, 20*time.Second, time.Millisecond)
				var left int64
				require.Eventually(t, func() bool { // writers end after their subscriptions
					left = inUse() - before
					return left < mib
				}, 20*time.Second, 10*time.Millisecond, "heap is left")
				t.Logf("%d KiB of heap are left", left>>10)
				require.NoError(t, hub.Close())
			})
		}
	}
}

func statsOf(h http.Handler) fanfare.StreamStats {
	return h.(interface{ Stats() fanfare.StreamStats }).Stats()
}

// inUse returns the bytes of heap that are reachable.
func inUse() int64 {
	for range 3 { // pools are emptied by the second
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
