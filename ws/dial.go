package ws

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"time"

	"github.com/coder/websocket"

	"github.com/fanfare-go/fanfare/internal/status"
	"github.com/fanfare-go/fanfare/internal/tcp"
)

// DialOptions are how a client connects, and what it allows its server.
type DialOptions struct {
	// HTTPClient makes the handshake's request. If nil, http.DefaultClient. Its
	// Timeout bounds the handshake only.
	HTTPClient *http.Client

	// Header goes with the handshake's request: Authorization, Cookie, Origin.
	Header http.Header

	// Options hold for the connection as they do for a server's. Subprotocols
	// are offered; CheckOrigin and MessageRate have no meaning.
	Options Options
}

// Dial connects to a WebSocket server at a URL with the scheme ws, wss, http or
// https. ctx bounds the handshake only. If opts is nil, the defaults stand. The
// caller closes the Conn.
//
// The error is a [*HandshakeError] if the server has answered with something
// else than an upgrade.
func Dial(ctx context.Context, url string, opts *DialOptions) (*Conn, error) {
	var o DialOptions
	if opts != nil {
		o = *opts
	}
	options := o.Options.withDefaults()
	d := &dialer{timeout: options.WriteTimeout}
	client := http.Client{}
	if o.HTTPClient != nil {
		client = *o.HTTPClient
	}
	d.next = client.Transport
	if d.next == nil {
		d.next = http.DefaultTransport
	}
	client.Transport = d
	library, response, err := websocket.Dial(ctx, url, &websocket.DialOptions{
		HTTPClient:      &client,
		HTTPHeader:      o.Header,
		Subprotocols:    options.Subprotocols,
		CompressionMode: options.mode(),
		OnPingReceived: func(_ context.Context, payload []byte) bool {
			d.socket.answer(payload)
			return false
		},
	})
	if err != nil {
		if response != nil {
			return nil, &HandshakeError{response.StatusCode, err, status.RetryAfter(response.Header)}
		}
		return nil, fmt.Errorf("ws: dialing: %w", err)
	}
	return newConn(context.WithoutCancel(ctx), library, d.socket, new(deflater), options).start(options.MaxAge), nil
}

// dialer is the http.RoundTripper that puts the socket between the library and
// the connection.
type dialer struct {
	next    http.RoundTripper
	timeout time.Duration
	socket  *socket
}

func (d *dialer) RoundTrip(r *http.Request) (*http.Response, error) {
	var conn net.Conn
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { conn = info.Conn },
	}))
	response, err := d.next.RoundTrip(r)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		return response, err
	}
	body, ok := response.Body.(io.ReadWriteCloser)
	if !ok || conn == nil {
		response.Body.Close()
		return nil, errors.New("the http.Client's Transport does not hand out the connection of an upgrade")
	}
	if err := checkAnswer(response.Header); err != nil {
		response.Body.Close()
		return nil, err
	}
	// The body has what the transport read ahead, the connection the deadlines.
	d.socket = &socket{client: true}
	d.socket.attach(upgraded{conn, body}, nil, new(tcp.Buffers), d.timeout)
	d.socket.deflates = deflates(response.Header)
	response.Body = d.socket
	return response, nil
}

// upgraded is a connection that is read through what has buffered it.
type upgraded struct {
	net.Conn
	body io.ReadWriteCloser
}

func (u upgraded) NetConn() net.Conn           { return u.Conn }
func (u upgraded) Read(p []byte) (int, error)  { return u.body.Read(p) }
func (u upgraded) Write(p []byte) (int, error) { return u.body.Write(p) }
func (u upgraded) Close() error                { return u.body.Close() }
