package ws_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/memnet"
	"github.com/fanfare-go/fanfare/ws"
)

// network is a server in memory, in a synctest bubble, and clients of it.
type network struct {
	t        *testing.T
	listener dialer
	server   *http.Server
	client   *http.Client
}

// dialer connects to a server.
type dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// serve runs test in a bubble of its own, with a server whose handler is h.
func serve(t *testing.T, h http.Handler, test func(t *testing.T, n *network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		listener := memnet.Listen()
		n := &network{t: t, listener: listener, server: &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}}
		n.client = &http.Client{Transport: &http.Transport{DialContext: n.listener.DialContext}}
		go n.server.Serve(listener)
		defer func() {
			n.client.CloseIdleConnections()
			n.server.Close()
		}()
		test(t, n)
	})
}

// tcpDialer connects over TCP.
type tcpDialer struct{ net.Addr }

func (d tcpDialer) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", d.String())
}

// serveTCP runs test with a server over TCP, in real time.
func serveTCP(t *testing.T, h http.Handler, test func(t *testing.T, n *network)) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	n := &network{t: t, listener: tcpDialer{listener.Addr()}, server: &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}}
	n.client = &http.Client{Transport: &http.Transport{DialContext: n.listener.DialContext}}
	go n.server.Serve(listener)
	defer func() {
		n.client.CloseIdleConnections()
		n.server.Close()
	}()
	test(t, n)
}

// dial connects with this package's client.
func (n *network) dial(target string, o ws.Options) *ws.Conn {
	n.t.Helper()
	c, err := ws.Dial(n.t.Context(), "ws://memory"+target, &ws.DialOptions{HTTPClient: n.client, Options: o})
	require.NoError(n.t, err)
	n.t.Cleanup(func() { c.CloseNow() })
	return c
}

// peer is a client, or a server, that sends exactly the bytes it is given.
type peer struct {
	t *testing.T
	net.Conn
	r      *bufio.Reader
	masked bool // the frames that it reads: it is a server, and does not mask its own
}

func newPeer(t *testing.T, conn net.Conn) *peer { return &peer{t, conn, bufio.NewReader(conn), false} }

// raw connects a peer that has completed its handshake; more is sent with the request.
func (n *network) raw(target, more string) *peer {
	n.t.Helper()
	conn, err := n.listener.DialContext(n.t.Context(), "", "")
	require.NoError(n.t, err)
	n.t.Cleanup(func() { conn.Close() })
	p := newPeer(n.t, conn)
	p.write("GET " + target + " HTTP/1.1\r\nHost: memory\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" + more)
	response, err := http.ReadResponse(p.r, nil)
	require.NoError(n.t, err)
	require.Equal(n.t, http.StatusSwitchingProtocols, response.StatusCode)
	require.Equal(n.t, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", response.Header.Get("Sec-WebSocket-Accept"), "the example of RFC 6455 section 1.3")
	return p
}

func (p *peer) write(s string) {
	p.t.Helper()
	_, err := io.WriteString(p.Conn, s)
	require.NoError(p.t, err)
}

// frame is a frame on the wire, unmasked.
type frame struct {
	first   byte // FIN, RSV and opcode
	payload string
}

func (f frame) String() string { return fmt.Sprintf("%#x %.60q", f.first, f.payload) }

const (
	fin   = 0x80
	text  = 0x1
	bin   = 0x2
	clos  = 0x8
	ping  = 0x9
	pong  = 0xa
	cont  = 0x0
	rsv1  = 0x40
	limit = 2 * time.Minute // on waiting for a frame, in fake time
)

// masked returns a frame of a client.
func masked(first byte, payload string) string {
	b := []byte(payload)
	key := []byte{1, 2, 3, 4}
	mask(b, key)
	return header(first, 0x80, len(b)) + string(key) + string(b)
}

// unmasked returns a frame of a server.
func unmasked(first byte, payload string) string {
	return header(first, 0, len(payload)) + payload
}

// mask is RFC 6455 section 5.3, fast enough for 16 MiB.
func mask(b, key []byte) {
	const many = 1024
	for key = bytes.Repeat(key, many/len(key)); len(b) > 0; b = b[min(len(b), many):] {
		subtle.XORBytes(b, b, key)
	}
}

func header(first, mask byte, size int) string {
	b := []byte{first}
	switch {
	case size < 126:
		b = append(b, mask|byte(size))
	case size < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, mask|126), uint16(size))
	default:
		b = binary.BigEndian.AppendUint64(append(b, mask|127), uint64(size))
	}
	return string(b)
}

// closing returns the payload of a close frame.
func closing(code ws.StatusCode, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(code))) + reason
}

var errMask = errors.New("a server masks its frames, or a client does not")

// readFrame reads a frame. It is an error if the frame is masked and should not be, or
// the other way round.
func readFrame(r *bufio.Reader, masked bool) (f frame, err error) {
	var h [2]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return frame{}, err
	}
	if h[1]&0x80 != 0 != masked {
		return frame{}, errMask
	}
	size := uint64(h[1] & 0x7f)
	switch size {
	case 126:
		var n uint16
		err = binary.Read(r, binary.BigEndian, &n)
		size = uint64(n)
	case 127:
		err = binary.Read(r, binary.BigEndian, &size)
	}
	if err != nil {
		return frame{}, err
	}
	var key [4]byte
	if masked {
		if _, err := io.ReadFull(r, key[:]); err != nil {
			return frame{}, err
		}
	}
	payload := make([]byte, size)
	_, err = io.ReadFull(r, payload)
	if masked {
		mask(payload, key[:])
	}
	return frame{h[0], string(payload)}, err
}

// next reads the next frame.
func (p *peer) next() frame {
	p.t.Helper()
	p.SetReadDeadline(time.Now().Add(limit))
	f, err := readFrame(p.r, p.masked)
	require.NoError(p.t, err)
	return f
}

// receives reads frames, which must be these text messages.
func (p *peer) receives(want ...string) {
	p.t.Helper()
	for _, w := range want {
		require.Equal(p.t, frame{fin | text, w}, p.next())
	}
}

// closes reads a close frame with this code, answers it, and then requires the end of
// the connection.
func (p *peer) closes(code ws.StatusCode) (reason string) {
	p.t.Helper()
	f := p.next()
	require.Equal(p.t, byte(fin|clos), f.first, "%v", f)
	require.GreaterOrEqual(p.t, len(f.payload), 2)
	require.Equal(p.t, code, ws.StatusCode(binary.BigEndian.Uint16([]byte(f.payload))), "%q", f.payload)
	io.WriteString(p.Conn, masked(fin|clos, f.payload[:2])) // an error if the server did not wait
	p.ends()
	return f.payload[2:]
}

// ends requires the end of the connection, with nothing before it.
func (p *peer) ends() {
	p.t.Helper()
	p.SetReadDeadline(time.Now().Add(limit))
	b, err := io.ReadAll(p.r)
	require.NoError(p.t, err)
	require.Empty(p.t, string(b))
}

// silent requires that nothing comes for a while.
func (p *peer) silent(d time.Duration) {
	p.t.Helper()
	p.SetReadDeadline(time.Now().Add(d))
	f, err := readFrame(p.r, p.masked)
	require.ErrorIs(p.t, err, os.ErrDeadlineExceeded, "%v", f)
}
