package sse_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// burst is how many messages go out at once in the benchmarks below. Each has a mark
// that is nowhere else on the wire.
const burst = 300

var marked = "@" + strings.Repeat("x", 127)

// arrivals counts messages down, and signals when all that are expected have arrived.
type arrivals struct {
	left atomic.Int64
	all  chan struct{}
}

func newArrivals() *arrivals { return &arrivals{all: make(chan struct{}, 1)} }

func (a *arrivals) count(b []byte) {
	if n := int64(bytes.Count(b, []byte("@"))); n > 0 && a.left.Add(-n) == 0 {
		a.all <- struct{}{}
	}
}

// arriving is the ResponseWriter of a connection that takes everything at once.
type arriving struct {
	sinkWriter
	*arrivals
}

func (a arriving) Write(b []byte) (int, error) {
	a.count(b)
	return len(b), nil
}

// BenchmarkBatch publishes bursts to streams whose connections take everything at once:
// what is left is publishing, waking, polling and joining.
func BenchmarkBatch(b *testing.B) {
	const streams = 1000
	hub := broadcast.Hub{Keep: 2 * burst}
	h := &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}, Logger: silent}
	arrived := newArrivals()
	var served sync.WaitGroup
	for range streams {
		w := arriving{newSinkWriter(new(atomic.Int64)), arrived}
		served.Go(func() { h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil)) })
	}
	for hub.Stats().Subscriptions < streams {
		runtime.Gosched()
	}
	b.ReportAllocs()
	for b.Loop() {
		arrived.left.Store(burst * streams)
		for range burst {
			publish(b, &hub, "a", marked)
		}
		<-arrived.all
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/burst/streams, "ns/delivery")
	require.NoError(b, hub.Close())
	served.Wait()
}

// counted counts the writes to the connections of a listener.
type counted struct {
	net.Listener
	writes *atomic.Int64
}

func (w counted) Accept() (net.Conn, error) {
	c, err := w.Listener.Accept()
	return countedConn{c, w.writes}, err
}

type countedConn struct {
	net.Conn
	writes *atomic.Int64
}

func (w countedConn) Write(b []byte) (int, error) {
	w.writes.Add(1)
	return w.Conn.Write(b)
}

// BenchmarkTLS sends bursts over TLS on the loopback interface, and reads them.
func BenchmarkTLS(b *testing.B) {
	const streams = 100
	for _, bm := range []struct {
		name string
		open func(hub *broadcast.Hub) http.Handler
	}{
		{"detached", func(hub *broadcast.Hub) http.Handler {
			return &sse.Handler{Broadcaster: hub, Topics: []string{"a"}, Detach: true, Logger: silent}
		}},
		{"attached", func(hub *broadcast.Hub) http.Handler {
			return &sse.Handler{Broadcaster: hub, Topics: []string{"a"}, Logger: silent}
		}},
		{"a write for each message", func(hub *broadcast.Hub) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s, err := sse.NewWriter(w, r, nil)
				require.NoError(b, err)
				defer s.Close()
				for m, err := range broadcast.Messages(s.Context(), hub, broadcast.SubscribeOptions{Topics: []string{"a"}}) {
					if err != nil || s.Send(sse.Event{ID: m.ID.String(), Data: m.Data}) != nil {
						return
					}
				}
			})
		}},
	} {
		b.Run(bm.name, func(b *testing.B) {
			hub := broadcast.Hub{Keep: 2 * burst}
			var writes atomic.Int64
			server := httptest.NewUnstartedServer(bm.open(&hub))
			server.Listener = counted{server.Listener, &writes}
			server.StartTLS()
			defer server.Close()
			arrived := newArrivals()
			var clients sync.WaitGroup
			for range streams {
				c, err := tls.Dial("tcp", server.Listener.Addr().String(), server.Client().Transport.(*http.Transport).TLSClientConfig)
				require.NoError(b, err)
				_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
				require.NoError(b, err)
				clients.Go(func() {
					defer c.Close()
					buf := make([]byte, 32<<10)
					for {
						n, err := c.Read(buf)
						if err != nil {
							return
						}
						arrived.count(buf[:n])
					}
				})
			}
			for hub.Stats().Subscriptions < streams {
				runtime.Gosched()
			}
			writes.Store(0)
			for b.Loop() {
				arrived.left.Store(burst * streams)
				for range burst {
					publish(b, &hub, "a", marked)
				}
				<-arrived.all
			}
			deliveries := float64(b.N) * burst * streams
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/deliveries, "ns/delivery")
			b.ReportMetric(float64(writes.Load())/deliveries, "writes/delivery")
			require.NoError(b, hub.Close())
			clients.Wait()
		})
	}
}
