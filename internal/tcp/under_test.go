package tcp_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/tcp"
)

// Wrappers of connections, each with another way to what it wraps.
type (
	embedding     struct{ net.Conn }
	embeddingTCP  struct{ *net.TCPConn }
	embeddingMore struct{ halfCloser }
	halfCloser    interface {
		net.Conn
		CloseWrite() error
	}
	HalfCloser    = halfCloser
	embeddingMany struct {
		io.Reader
		net.Conn
	}
	base             struct{ net.Conn }
	embeddingBase    struct{ base }
	embeddingPointer struct{ *base }

	netConn struct {
		opaque
		inner net.Conn
	}
	raw struct {
		opaque
		inner net.Conn
	}
	tcpConn struct {
		opaque
		inner net.Conn
	}
	itself struct{ opaque }
)

func (e embeddingMany) Read(b []byte) (int, error) { return e.Reader.Read(b) }

func (c netConn) NetConn() net.Conn { return c.inner }
func (c raw) Raw() net.Conn         { return c.inner }
func (c itself) NetConn() net.Conn  { return c }

func (c tcpConn) TCPConn() (*net.TCPConn, bool) {
	t, ok := c.inner.(*net.TCPConn)
	return t, ok
}

// opaque hides what it wraps.
type opaque struct{ hidden net.Conn }

func (o opaque) Read(b []byte) (int, error)         { return o.hidden.Read(b) }
func (o opaque) Write(b []byte) (int, error)        { return o.hidden.Write(b) }
func (o opaque) Close() error                       { return o.hidden.Close() }
func (o opaque) LocalAddr() net.Addr                { return o.hidden.LocalAddr() }
func (o opaque) RemoteAddr() net.Addr               { return o.hidden.RemoteAddr() }
func (o opaque) SetDeadline(t time.Time) error      { return o.hidden.SetDeadline(t) }
func (o opaque) SetReadDeadline(t time.Time) error  { return o.hidden.SetReadDeadline(t) }
func (o opaque) SetWriteDeadline(t time.Time) error { return o.hidden.SetWriteDeadline(t) }

// connect returns the two ends of a TCP connection.
func connect(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	s, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

func TestUnderReachesWhatWrappersWrap(t *testing.T) {
	_, c := connect(t)
	pipe, _ := net.Pipe()
	hiding := opaque{c}
	for name, test := range map[string]struct{ conn, want net.Conn }{
		"TCP":                            {c, c},
		"TLS":                            {tls.Server(c, nil), c},
		"an embedded net.Conn":           {embedding{c}, c},
		"a pointer to the wrapper":       {&embedding{c}, c},
		"an embedded TCP connection":     {embeddingTCP{c}, c},
		"an embedded interface of more":  {struct{ HalfCloser }{c}, c},
		"several embedded":               {embeddingMany{embedding{pipe}, embedding{c}}, c},
		"a struct that embeds it":        {embeddingBase{base{c}}, c},
		"a pointer to such a struct":     {&embeddingPointer{&base{c}}, c},
		"NetConn":                        {&netConn{inner: c}, c},
		"Raw":                            {raw{inner: c}, c},
		"TCPConn":                        {tcpConn{inner: c}, c},
		"one in another":                 {tls.Server(&embedding{raw{inner: embeddingBase{base{tls.Client(netConn{inner: c}, nil)}}}}, nil), c},
		"a Unix or other connection":     {embedding{pipe}, pipe},
		"what it cannot look through":    {embedding{hiding}, hiding},
		"an unexported interface":        {&embeddingMore{halfCloser: c}, &embeddingMore{halfCloser: c}},
		"TCPConn without one":            {tcpConn{inner: pipe}, tcpConn{inner: pipe}},
		"NetConn without one":            {netConn{}, netConn{}},
		"nothing embedded":               {embedding{}, embedding{}},
		"a nil pointer embedded":         {&embeddingPointer{}, &embeddingPointer{}},
		"a wrapper that returns itself":  {itself{}, itself{}},
		"nothing embedded by a pointer":  {embeddingTCP{}, embeddingTCP{}},
		"what is embedded next to a nil": {embeddingMany{nil, c}, c},
	} {
		require.Equal(t, test.want, tcp.Under(test.conn), name)
	}
}

func TestHiddenIsAConnectionWithoutASocket(t *testing.T) {
	_, c := connect(t)
	for name, conn := range map[string]net.Conn{"TCP": c, "wrapped": &embedding{tls.Server(c, nil)}} {
		_, hidden := tcp.Hidden(conn)
		require.False(t, hidden, name)
	}
	wrapper, hidden := tcp.Hidden(embedding{opaque{c}})
	require.True(t, hidden)
	require.Equal(t, opaque{c}, wrapper)
}

// closing keeps what each Close of what it wraps has returned.
type closing struct {
	net.Conn
	closed *[]error
}

func (c closing) Close() error {
	*c.closed = append(*c.closed, c.Conn.Close())
	return nil
}

// A connection is closed at once although its peer does not read, and the wrappers' Close
// can close what they wrap.
func TestHangUpDoesNotWaitForThePeer(t *testing.T) {
	certificates := func() []tls.Certificate {
		server := httptest.NewTLSServer(nil)
		defer server.Close()
		return server.TLS.Certificates
	}()
	for _, where := range []string{"plain", "outside of TLS", "inside of TLS"} {
		t.Run(where, func(t *testing.T) {
			client, server := connect(t)
			var closed []error
			var conn net.Conn = closing{server, &closed}
			if where != "plain" {
				secured := func(c net.Conn) net.Conn {
					s := tls.Server(c, &tls.Config{Certificates: certificates})
					shaken := make(chan error, 1)
					go func() { shaken <- tls.Client(client, &tls.Config{InsecureSkipVerify: true}).Handshake() }()
					require.NoError(t, s.Handshake())
					require.NoError(t, <-shaken)
					return s
				}
				if where == "inside of TLS" {
					conn = secured(conn)
				} else {
					conn = closing{secured(server), &closed}
				}
			}
			require.NoError(t, server.SetWriteBuffer(1))
			require.NoError(t, conn.SetWriteDeadline(time.Now().Add(100*time.Millisecond)))
			for {
				if _, err := server.Write(make([]byte, 1<<20)); err != nil { // the peer does not read
					break
				}
			}
			require.NoError(t, conn.SetWriteDeadline(time.Time{}))
			began := time.Now()
			tcp.HangUp(conn)
			require.Less(t, time.Since(began), 2*time.Second)
			require.Len(t, closed, 1)
			if where != "outside of TLS" { // the alert could not be sent
				require.NoError(t, closed[0])
			}
		})
	}
}
