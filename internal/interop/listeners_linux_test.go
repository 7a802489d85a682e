package interop_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/soheilhy/cmux"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/netutil"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

const preface = "PROXY TCP4 192.0.2.1 192.0.2.2 1000 443\r\n"

// listeners are listeners of other projects, around one of TCP.
var listeners = []struct {
	name    string
	preface string // what a client sends first
	tls     bool   // the listener has TLS within
	wrap    func(t *testing.T, l net.Listener) net.Listener
}{
	{"go-proxyproto", preface, false, func(_ *testing.T, l net.Listener) net.Listener { return &proxyproto.Listener{Listener: l} }},
	{"LimitListener", "", false, func(_ *testing.T, l net.Listener) net.Listener { return netutil.LimitListener(l, 1) }},
	{"LimitListener around TLS", "", true, func(t *testing.T, l net.Listener) net.Listener {
		server := httptest.NewTLSServer(nil) // for its certificate
		defer server.Close()
		return netutil.LimitListener(tls.NewListener(l, &tls.Config{Certificates: server.TLS.Certificates}), 1)
	}},
	{"cmux", "", false, func(t *testing.T, l net.Listener) net.Listener {
		m := cmux.New(l)
		matched := m.Match(cmux.HTTP1Fast(), cmux.TLS())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = m.Serve()
		}()
		t.Cleanup(func() {
			l.Close()
			m.Close()
			<-done
		})
		return matched
	}},
	{"three of them", preface, false, func(_ *testing.T, l net.Listener) net.Listener {
		return netutil.LimitListener(&proxyproto.Listener{Listener: netutil.LimitListener(l, 1)}, 1)
	}},
}

// accepting is a listener of TCP that sends each connection to last as well.
type accepting struct {
	net.Listener
	last chan *net.TCPConn
}

func (a accepting) Accept() (net.Conn, error) {
	c, err := a.Listener.Accept()
	if err == nil {
		a.last <- c.(*net.TCPConn)
	}
	return c, err
}

// option returns an option of a connection's socket.
func option(t *testing.T, c *net.TCPConn, name int) (value int) {
	t.Helper()
	raw, err := c.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		value, err = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, name)
	}))
	require.NoError(t, err)
	return value
}

// Streams reach the socket of their connection through the wrappers of a listener, over TLS
// too. When a stream ends the wrappers know that its connection has ended.
func TestListeners(t *testing.T) {
	const (
		userTimeout = 0x12 // TCP_USER_TIMEOUT
		unsent      = 0x19 // TCP_NOTSENT_LOWAT
	)
	hub := &broadcast.Hub{Logger: silent}
	t.Cleanup(func() { hub.Close() }) // the subtests run later
	streams := map[string]func(*slog.Logger) http.Handler{
		"event stream": func(logger *slog.Logger) http.Handler {
			return &sse.Handler{Broadcaster: hub, Topics: []string{"prices"}, Logger: logger}
		},
		"detached event stream": func(logger *slog.Logger) http.Handler {
			return &sse.Handler{Broadcaster: hub, Topics: []string{"prices"}, Detach: true, Logger: logger,
				Options: sse.Options{Heartbeat: 100 * time.Millisecond}} // which finds out that the client has left
		},
		"WebSocket": func(logger *slog.Logger) http.Handler {
			return &ws.Handler{Broadcaster: hub, Topics: []string{"prices"}, Logger: logger}
		},
	}
	for _, listener := range listeners {
		for _, secure := range []bool{false, true} {
			for name, stream := range streams {
				if secure && listener.tls {
					continue
				}
				t.Run(fmt.Sprintf("%s/TLS=%v/%s", listener.name, secure || listener.tls, name), func(t *testing.T) {
					t.Parallel()
					var log strings.Builder
					server := httptest.NewUnstartedServer(stream(slog.New(slog.NewTextHandler(&log, nil))))
					server.Config.ConnContext = sse.ConnContext
					server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
					accepted := accepting{server.Listener, make(chan *net.TCPConn, 10)}
					server.Listener = listener.wrap(t, accepted)
					if secure {
						server.StartTLS()
					} else {
						server.Start()
					}
					t.Cleanup(server.Close) // after its clients
					for range 2 {           // a limit of one connection admits one after the other
						client := begin(t, server.Listener.Addr(), listener.preface, secure || listener.tls)
						conn := next(t, accepted.last)
						require.Positive(t, option(t, conn, userTimeout))
						require.Positive(t, option(t, conn, unsent))
						require.NoError(t, client.Close())
					}
					require.NotContains(t, log.String(), "cannot be reached")
				})
			}
		}
	}
}

// begin opens a connection that asks for an event stream and for a WebSocket, and returns
// it when the stream has begun.
func begin(t *testing.T, addr net.Addr, preface string, secure bool) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr.String())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	_, err = io.WriteString(conn, preface)
	require.NoError(t, err)
	if secure {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	answer := bufio.NewReader(conn)
	status, err := answer.ReadString('\n')
	require.NoError(t, err)
	require.Regexp(t, "^HTTP/1.1 (200|101) ", status)
	for line := ""; line != "\r\n"; {
		line, err = answer.ReadString('\n')
		require.NoError(t, err)
	}
	_, err = answer.ReadByte()
	require.NoError(t, err)
	return conn
}
