package ws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"runtime"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/fanfare-go/fanfare/internal/delivery"
	"github.com/fanfare-go/fanfare/internal/jsontext"
	"github.com/fanfare-go/fanfare/internal/tcp"
)

// MessageType is the type of a message (RFC 6455 section 5.6).
type MessageType int

// The types of messages.
const (
	Text   MessageType = opText // UTF-8
	Binary MessageType = opBinary
)

// Conn is a WebSocket connection (RFC 6455). [Upgrade] returns one to a server,
// [Dial] to a client, and a Handler's Receive gets the one of its client.
//
// The code that got a Conn from Upgrade or Dial closes it, with Close or CloseNow. A
// Conn also ends when the peer closes it or sends what is not allowed, when a write or
// a read fails, when the peer is silent (Options.PingInterval), at its age
// (Options.MaxAge), and on a server with the context of the request. Its Context ends
// in each case.
//
// All methods may be called concurrently. Pings are sent by a timer, but control
// frames of the peer are answered, and its silence is noticed, only while something
// reads: call Read in a loop, or ReadAhead or CloseRead once.
type Conn struct {
	// Set before the Conn is used, and constant afterwards.
	socket    *socket
	protocol  string // of the handshake
	deflater  *deflater
	limit     int64           // bytes of a message; negative: no limit
	timeout   time.Duration   // of a closing or a refusal
	ctx       context.Context // ends with the connection
	cancel    context.CancelCauseFunc
	pingTimer *time.Timer // calls checkPeer; nil: no pings, or a Handler's clock calls it

	phase     phaseWord // changed by any goroutine
	keepalive keepalive // owned by the goroutine that calls checkPeer
	reading   reading   // has a lock of its own
}

// newConn returns the Conn of a connection whose handshake is done. The library has done
// that, and is not used any more.
func newConn(ctx context.Context, library *websocket.Conn, s *socket, d *deflater, o *Options) *Conn {
	runtime.SetFinalizer(library, nil) // which would close the connection
	c := &Conn{
		socket:    s,
		protocol:  library.Subprotocol(),
		deflater:  d,
		limit:     o.MaxMessage,
		timeout:   o.WriteTimeout,
		keepalive: keepalive{interval: o.PingInterval, due: o.PingInterval},
	}
	if c.timeout == 0 {
		c.timeout = defaultWriteTimeout
	}
	// Closing takes longer than the request, so its end must not end the Conn's context.
	c.ctx, c.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	s.conn = c
	tcp.SetUnsent(s.Conn, delivery.MaxUnsent)
	if o.PingInterval > 0 && o.WriteTimeout > 0 {
		tcp.SetUserTimeout(s.Conn, o.PingInterval+o.WriteTimeout)
	}
	return c
}

// Context returns a context that ends with the connection; context.Cause returns why
// it ended. On a server it has the values of the request's context.
func (c *Conn) Context() context.Context { return c.ctx }

// Subprotocol returns the subprotocol that the handshake agreed on, or "".
func (c *Conn) Subprotocol() string { return c.protocol }

// Write sends a message in one frame. Messages of concurrent Writes are sent one after
// the other. If ctx ends while Write waits for another, its error is returned, nothing
// was sent, and the connection stays open; a write that has begun is bounded by
// WriteTimeout alone. A p that is not UTF-8 cannot be sent as Text, which is an error
// that leaves the connection open too. Any other error is final. It holds
// net.ErrClosed if the connection was closed before.
//
// Write keeps no reference to p.
func (c *Conn) Write(ctx context.Context, t MessageType, p []byte) error {
	switch {
	case t != Text && t != Binary:
		return fmt.Errorf("ws: writing: %d is not a MessageType", t)
	case t == Text && !utf8.Valid(p):
		return errors.New("ws: writing: Text must be UTF-8: send it as Binary")
	}
	frame := c.frame(byte(t), p)
	if err := c.socket.out.lock.lockContext(ctx); err != nil {
		return fmt.Errorf("ws: writing: %w", err)
	}
	defer c.socket.unlock(nil)
	if c.phase.load() != open {
		return fmt.Errorf("ws: writing: %w", net.ErrClosed)
	}
	if err := c.socket.write(nil, frame...); err != nil {
		return fmt.Errorf("ws: writing: %w", err)
	}
	return nil
}

// maxCopied is the size in bytes up to which messages are copied, to be written with
// their headers in one buffer.
const maxCopied = 4096

// frame returns the frame of a message, in one buffer or two.
func (c *Conn) frame(opcode byte, p []byte) net.Buffers {
	masked := c.socket.client
	switch {
	case c.socket.deflates:
		return net.Buffers{c.deflater.appendFrame(nil, opcode, p, masked)}
	case masked || len(p) <= maxCopied:
		return net.Buffers{appendFrame(make([]byte, 0, maxHeader+len(p)), opcode, p, masked)}
	}
	return net.Buffers{appendHeader(nil, opcode, len(p), false), p}
}

// ReadJSON reads a message and decodes it into v. If the message cannot be decoded,
// the error leaves the connection open; other errors are those of Read.
func (c *Conn) ReadJSON(ctx context.Context, v any) error {
	_, data, err := c.Read(ctx)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("ws: decoding a message as JSON: %w", err)
	}
	return nil
}

// WriteJSON sends v as JSON, in a text message. If v cannot be encoded, or has a string
// that is not UTF-8, which json.Marshal would change, the error leaves the connection
// open; other errors are those of Write.
func (c *Conn) WriteJSON(ctx context.Context, v any) error {
	data, err := jsontext.Marshal(v)
	if err != nil {
		return fmt.Errorf("ws: encoding a message as JSON: %w", err)
	}
	return c.Write(ctx, Text, data)
}
