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

// DialOptions are how a client connects, and the limits of the connection. The zero
// DialOptions are good defaults.
type DialOptions struct {
	// HTTPClient sends the handshake's request. If nil, http.DefaultClient is used. Its
	// Timeout bounds the handshake alone.
	HTTPClient *http.Client

	// Header is added to the handshake's request, such as Authorization, Cookie or
	// Origin.
	Header http.Header

	// Options are those of the connection, as on a server. Subprotocols are offered to
	// the server. CheckOrigin and MessageRate are not used.
	Options Options
}

// Dial connects to a WebSocket server (RFC 6455 section 4.1) at a URL with the scheme
// ws, wss, http or https. ctx bounds the handshake alone, and the Conn's Context has its
// values. If opts is nil, Dial uses the zero DialOptions. The caller closes the Conn.
//
// If the Transport of the HTTPClient has an HTTP proxy for the URL, Dial asks that for a
// tunnel with CONNECT, for ws too. A proxy that refuses a tunnel to a ws server gets the
// request to forward.
//
// The error holds a [*HandshakeError] if the server's response is not an upgrade.
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
	})
	if err != nil {
		if response != nil {
			if response.StatusCode != http.StatusSwitchingProtocols {
				err = errNotUpgraded // the library's error repeats the status
			}
			if d.refused != nil {
				err = fmt.Errorf("%w; %w", err, d.refused)
			}
			return nil, &HandshakeError{response.StatusCode, err, status.RetryAfter(response.Header)}
		}
		return nil, fmt.Errorf("ws: dialing: %w", err)
	}
	return newConn(context.WithoutCancel(ctx), library, d.socket, new(deflater), &options).start(options.MaxAge), nil
}

var errNotUpgraded = errors.New("the server has not upgraded the connection")

// dialer is an http.RoundTripper for one handshake. It attaches the socket to the
// connection.
type dialer struct {
	next    http.RoundTripper
	timeout time.Duration
	socket  *socket
	refused *tunnelError // by the proxy that has forwarded the handshake instead; nil: none has
}

func (d *dialer) RoundTrip(r *http.Request) (*http.Response, error) {
	var conn net.Conn
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { conn = info.Conn },
	}))
	response, err := d.send(r)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		return response, err
	}
	body, ok := response.Body.(io.ReadWriteCloser)
	if !ok || conn == nil {
		response.Body.Close()
		return nil, errors.New("the http.Client's Transport does not return the connection of an upgrade")
	}
	if err := checkResponse(response.Header); err != nil {
		response.Body.Close()
		return nil, err
	}
	// The body has what the transport has read ahead, and the connection has deadlines.
	d.socket = &socket{client: true}
	d.socket.attach(upgraded{conn, body}, nil, new(tcp.Buffers), d.timeout)
	d.socket.deflates = deflates(response.Header)
	response.Body = d.socket
	return response, nil
}

// send sends the handshake, through a proxy if the transport has one for it.
func (d *dialer) send(r *http.Request) (response *http.Response, err error) {
	p := proxyOf(d.next, r)
	if p == nil {
		return d.next.RoundTrip(r)
	}
	response, d.refused, err = p.roundTrip(r)
	return response, err
}

// upgraded is a connection that is read and written through the body of its response.
type upgraded struct {
	net.Conn
	body io.ReadWriteCloser
}

func (u upgraded) NetConn() net.Conn           { return u.Conn }
func (u upgraded) Read(p []byte) (int, error)  { return u.body.Read(p) }
func (u upgraded) Write(p []byte) (int, error) { return u.body.Write(p) }
func (u upgraded) Close() error                { return u.body.Close() }
