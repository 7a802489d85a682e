package abuse_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// victim is a server with both handlers, attached and detached, for hostile clients. It
// grants whatever topics a client asks for, at first and later, and accepts whatever it
// sends.
type victim struct {
	hub     *broadcast.Hub
	mux     *http.ServeMux // tests may add handlers
	server  *httptest.Server
	address string
	before  stock
	logger  *slog.Logger
	panics  panics
}

// slowest is how long the victim waits for a whole request.
const slowest = 2 * time.Second

// The paths of the victim's streams. Hostile clients subscribe to the topic "a".
var (
	eventPaths  = []string{"/attached/events?topic=a", "/detached/events?topic=a"}
	socketPaths = []string{"/attached/ws?topic=a", "/detached/ws?topic=a"}
	allPaths    = []string{eventPaths[0], eventPaths[1], socketPaths[0], socketPaths[1]}
)

// abused starts a victim. When the test is over and its clients are gone, nothing may be
// left of them while the server still runs.
func abused(t *testing.T, options ws.Options) *victim {
	v := &victim{hub: new(broadcast.Hub), mux: http.NewServeMux()}
	v.logger = slog.New(slog.NewTextHandler(&v.panics, nil))
	grant := func(r *http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: r.URL.Query()["topic"], Change: func(topics []string) (*fanfare.Grant, error) {
			return &fanfare.Grant{Topics: topics}, nil
		}}, nil
	}
	receive := func(*http.Request, *ws.Conn) func(ws.MessageType, []byte) error {
		return func(ws.MessageType, []byte) error { return nil }
	}
	for path, detach := range map[string]bool{"/attached": false, "/detached": true} {
		v.mux.Handle(path+"/events", &sse.Handler{Broadcaster: v.hub, Grant: grant, Options: sse.Options{WriteTimeout: options.WriteTimeout}, Detach: detach, Logger: v.logger})
		v.mux.Handle(path+"/ws", &ws.Handler{Broadcaster: v.hub, Grant: grant, Receive: receive, Options: options, Detach: detach, Logger: v.logger})
	}
	v.server = httptest.NewUnstartedServer(v.mux)
	v.server.Config.ErrorLog = slog.NewLogLogger(v.logger.Handler(), slog.LevelError)
	v.server.Config.ReadHeaderTimeout = slowest
	v.server.Config.ReadTimeout = slowest // streams outlive it
	v.server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		_ = c.(*net.TCPConn).SetWriteBuffer(32 << 10) // full soon if the client does not read
		_ = c.(*net.TCPConn).SetReadBuffer(32 << 10)  // nearly all that has arrived has been read
		return sse.ConnContext(ctx, c)
	}
	v.server.Start()
	v.address = v.server.Listener.Addr().String()
	t.Cleanup(v.server.Close)
	v.visit(t)
	v.before = takeStock()
	t.Cleanup(func() { v.recovers(t) })
	return v
}

// visit connects one client of each kind, so that what is allocated once has been.
func (v *victim) visit(t *testing.T) {
	for _, path := range allPaths {
		v.connect(t, path).Close()
	}
	v.isDeserted(t)
}

// recovers fails the test if anything is left of the clients, or if anything panicked.
func (v *victim) recovers(t *testing.T) {
	v.isDeserted(t)
	isBack(t, v.before)
	assert.Empty(t, v.panics.all())
}

// isDeserted waits until all subscriptions have ended. It publishes meanwhile, because a
// detached event stream notices that its client is gone when it writes.
func (v *victim) isDeserted(t *testing.T) {
	require.Eventually(t, func() bool {
		for _, topic := range []string{"a", "news"} {
			_, err := v.hub.Publish(context.Background(), broadcast.Message{Topic: topic, Data: []byte("x")})
			assert.NoError(t, err)
		}
		return v.hub.Stats().Subscriptions == 0
	}, 20*time.Second, 20*time.Millisecond, "subscriptions are left")
}

// request returns the bytes of a request that opens a stream.
func request(path string, header ...string) string {
	if strings.Contains(path, "/ws") {
		header = append(header, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
	}
	return "GET " + path + " HTTP/1.1\r\nHost: x\r\n" + strings.Join(append(header, "", ""), "\r\n")
}

// peer is a client that sends what a test writes, byte for byte.
type peer struct {
	*net.TCPConn
	r        *bufio.Reader
	response *http.Response
}

// dial connects a peer that has sent nothing yet.
func (v *victim) dial(t *testing.T) *peer {
	c, err := net.Dial("tcp", v.address)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	_ = c.(*net.TCPConn).SetWriteBuffer(32 << 10)      // nearly all that was sent has reached the server
	_ = c.SetReadDeadline(time.Now().Add(time.Minute)) // a test that waits longer fails
	return &peer{TCPConn: c.(*net.TCPConn), r: bufio.NewReader(c)}
}

// connect connects a peer and opens its stream.
func (v *victim) connect(t *testing.T, path string, header ...string) *peer {
	p := v.dial(t)
	_, err := io.WriteString(p, request(path, header...))
	require.NoError(t, err)
	p.response, err = http.ReadResponse(p.r, nil)
	require.NoError(t, err)
	require.Contains(t, []int{http.StatusOK, http.StatusSwitchingProtocols}, p.response.StatusCode)
	return p
}

// panics is a log that keeps the lines about panics.
type panics struct {
	mu    sync.Mutex
	lines []string
}

func (p *panics) Write(line []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if bytes.Contains(line, []byte("panic")) {
		p.lines = append(p.lines, string(line))
	}
	return len(line), nil
}

func (p *panics) all() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lines
}
