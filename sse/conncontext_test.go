package sse_test

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// hidingConn hides the connection that it wraps.
type hidingConn struct{ hidden net.Conn }

func (o hidingConn) Read(b []byte) (int, error)         { return o.hidden.Read(b) }
func (o hidingConn) Write(b []byte) (int, error)        { return o.hidden.Write(b) }
func (o hidingConn) Close() error                       { return o.hidden.Close() }
func (o hidingConn) LocalAddr() net.Addr                { return o.hidden.LocalAddr() }
func (o hidingConn) RemoteAddr() net.Addr               { return o.hidden.RemoteAddr() }
func (o hidingConn) SetDeadline(t time.Time) error      { return o.hidden.SetDeadline(t) }
func (o hidingConn) SetReadDeadline(t time.Time) error  { return o.hidden.SetReadDeadline(t) }
func (o hidingConn) SetWriteDeadline(t time.Time) error { return o.hidden.SetWriteDeadline(t) }

// wrapping is a listener that wraps its connections.
type wrapping struct {
	net.Listener
	wrap func(net.Conn) net.Conn
}

func (l wrapping) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.wrap(c), nil
}

// A Handler logs once that a listener hides its TCP connections, by the type of the wrapper.
func TestHiddenConnectionsAreReportedOnce(t *testing.T) {
	hide := func(c net.Conn) net.Conn { return hidingConn{c} }
	for _, test := range []struct {
		name             string
		network          string
		wrap             func(net.Conn) net.Conn
		secure           bool
		without          bool // ConnContext
		attached, detach int  // warnings
	}{
		{"TCP", "tcp", func(c net.Conn) net.Conn { return c }, false, false, 0, 0},
		{"TLS", "tcp", func(c net.Conn) net.Conn { return c }, true, false, 0, 0},
		{"an embedded connection", "tcp", func(c net.Conn) net.Conn { return struct{ net.Conn }{c} }, false, false, 0, 0},
		{"hidden", "tcp", hide, false, false, 1, 1},
		{"hidden in others", "tcp", func(c net.Conn) net.Conn { return struct{ net.Conn }{hidingConn{c}} }, true, false, 1, 1},
		{"without ConnContext", "tcp", hide, false, true, 0, 1},
		{"no TCP", "unix", hide, false, false, 0, 0},
	} {
		for want, detach := range map[*int]bool{&test.attached: false, &test.detach: true} {
			var book logbook
			server := httptest.NewUnstartedServer(&sse.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"a"}, Logger: book.logger(), Detach: detach})
			if !test.without {
				server.Config.ConnContext = sse.ConnContext
			}
			if test.network == "unix" {
				server.Listener.Close()
				var err error
				server.Listener, err = net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
				require.NoError(t, err)
			}
			addr := server.Listener.Addr()
			server.Listener = wrapping{server.Listener, test.wrap}
			if test.secure {
				server.StartTLS()
			} else {
				server.Start()
			}
			client := server.Client()
			transport := client.Transport.(*http.Transport)
			transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, addr.Network(), addr.String())
			}
			transport.DisableKeepAlives = true
			for range 3 {
				response, err := client.Get(map[bool]string{true: "https", false: "http"}[test.secure] + "://example.com")
				require.NoError(t, err)
				_, err = bufio.NewReader(response.Body).ReadString('\n')
				require.NoError(t, err)
				response.Body.Close()
			}
			server.Close()
			lines := book.with("the TCP connection cannot be reached")
			require.Len(t, lines, *want, "%s, detached: %v", test.name, detach)
			for _, line := range lines {
				require.Equal(t, "WARN", line["level"])
				require.Equal(t, "sse_test.hidingConn", line["wrapper"])
			}
		}
	}
}
