package ws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/fanfare-go/fanfare/internal/delivery"
	"github.com/fanfare-go/fanfare/internal/tcp"
)

// MessageType says what a message holds (RFC 6455 section 5.6).
type MessageType int

// The types of messages.
const (
	Text   MessageType = opText // UTF-8
	Binary MessageType = opBinary
)

// errSilent is why a connection ends whose peer did not answer a ping.
var errSilent = errors.New("ws: the peer is silent")

// Conn is a WebSocket connection. It keeps itself alive with pings.
//
// All methods may be called concurrently. Control frames from the peer are
// answered, and its silence is noticed, only while something reads: call Read in
// a loop, or ReadAhead or CloseRead once.
type Conn struct {
	socket   *socket
	library  *websocket.Conn
	deflater *deflater
	limit    int64 // of a message's size; -1: none
	timeout  time.Duration

	ctx    context.Context // ends with the connection
	cancel context.CancelCauseFunc
	beat   *time.Timer // nil: no pings

	reading turn          // held by whoever reads
	pending chan received // a read whose caller did not wait for it; belongs to who holds reading
	ahead   *ahead        // likewise: what ReadAhead reads; nil without
	readErr error         // how reading ended; belongs to who calls next

	interval time.Duration // of pings; 0: none
	due      time.Duration // when to look after the peer again, since socket.began
	probed   int64         // what socket.reads was at the last look
	pinged   bool          // and whether a ping went out then
	closing  atomic.Bool   // nothing more is to be written or handed over
	closed   atomic.Bool   // by Close or CloseNow
	refused  atomic.Bool   // by refuse, which cuts it
	cutting  sync.Once
}

// newConn takes over a connection whose handshake is done.
func newConn(ctx context.Context, library *websocket.Conn, s *socket, o Options) *Conn {
	c := &Conn{
		socket:   s,
		library:  library,
		limit:    o.MaxMessage,
		timeout:  o.WriteTimeout,
		deflater: o.deflater,
		interval: o.PingInterval,
		due:      o.PingInterval,
	}
	if c.deflater == nil {
		c.deflater = new(deflater)
	}
	if c.timeout == 0 {
		c.timeout = defaultWriteTimeout
	}
	// Closing takes longer than the request: it ends with the connection alone.
	c.ctx, c.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	library.SetReadLimit(-1) // see readMessage
	s.conn = c
	tcp.SetUnsent(s.Conn, delivery.MaxUnsent)
	if o.PingInterval > 0 && o.WriteTimeout > 0 {
		tcp.SetUserTimeout(s.Conn, o.PingInterval+o.WriteTimeout)
	}
	return c
}

// alone lets the connection look after itself, where no Handler's stream does.
func (c *Conn) alone(maxAge time.Duration) *Conn {
	c.age(maxAge)
	if c.interval == 0 {
		return c
	}
	c.beat = time.AfterFunc(math.MaxInt64, func() {
		if d := c.probe(); d > 0 {
			c.beat.Reset(d)
		}
	})
	c.beat.Reset(c.interval) // only now, when its function knows it
	return c
}

// probe sends a ping every interval in which nothing came in, and cuts a peer that
// was silent from one to the next. Its silence counts only where a read has waited all
// the time: what nobody reads may have come. It does not wait, and returns after how
// long to call it again; 0: never. It may be called sooner.
func (c *Conn) probe() time.Duration {
	now := time.Since(c.socket.began)
	switch {
	case c.interval == 0 || c.ctx.Err() != nil:
		return 0
	case now < c.due:
		return c.due - now
	}
	reads := c.socket.reads.Load()
	heard := time.Duration(c.socket.heard.Load())
	switch {
	case now-heard < c.interval: // something came in
		c.pinged = false
		c.due = heard + c.interval
		return c.due - now
	case c.pinged && reads == c.probed && reads&1 == 1 && !c.socket.behind():
		go c.cut(errSilent)
		return 0
	default:
		c.pinged = true
		go c.socket.probe()
	}
	c.probed = reads
	c.due = now + c.interval
	return c.interval
}

// age closes a connection that has lived long enough, between 80 and 100 % of
// most.
func (c *Conn) age(most time.Duration) {
	if most == 0 {
		return
	}
	timer := time.AfterFunc(most-rand.N(most/5+1), func() {
		_ = c.Close(StatusServiceRestart, "service restart")
	})
	context.AfterFunc(c.ctx, func() { timer.Stop() })
}

// Context ends with the connection; context.Cause tells why. It has the values of
// the request that was upgraded, and ends with its context.
func (c *Conn) Context() context.Context { return c.ctx }

// Subprotocol returns what was agreed on in the handshake; "" if nothing was.
func (c *Conn) Subprotocol() string { return c.library.Subprotocol() }

// Read returns the next message, which belongs to the caller. If ctx ends first,
// nothing is lost: the next Read gets the message.
//
// Any error but that of ctx is the end of the connection. It holds a [CloseError]
// if the peer closed it, or was told why it was closed: with 1007 for text that is
// not UTF-8, 1009 for a message larger than MaxMessage, 1002 for what is no
// WebSocket protocol. After Close it is [net.ErrClosed].
func (c *Conn) Read(ctx context.Context) (MessageType, []byte, error) {
	if err := c.reading.take(ctx); err != nil {
		return 0, nil, fmt.Errorf("ws: %w", err)
	}
	defer c.reading.letGo()
	r, err := c.await(ctx)
	if err != nil {
		return 0, nil, fmt.Errorf("ws: %w", err)
	}
	return r.typ, r.data, r.err
}

// await returns the next message, or the error of ctx; a read that ctx leaves
// behind goes on for whoever comes next. The caller holds reading.
func (c *Conn) await(ctx context.Context) (received, error) {
	if c.ahead != nil {
		return c.ahead.await(ctx)
	}
	if c.pending == nil {
		if ctx.Done() == nil {
			return c.next(), nil
		}
		pending := make(chan received, 1)
		c.pending = pending
		go func() { pending <- c.next() }()
	}
	select {
	case r := <-c.pending:
		c.pending = nil
		return r, nil
	case <-ctx.Done():
		return received{}, context.Cause(ctx)
	}
}

// next reads a message from the connection. Only one runs at a time.
func (c *Conn) next() (r received) {
	if c.readErr != nil {
		return received{err: c.readErr}
	}
	typ, reader, err := c.library.Reader(context.Background())
	if err == nil {
		r.typ = MessageType(typ)
		r.data, err = c.readMessage(reader, r.typ)
	}
	if err != nil {
		c.readErr = c.ended(err)
		return received{err: c.readErr}
	}
	return r
}

// ended makes of the library's error what Read returns for good, and ends the
// connection accordingly.
func (c *Conn) ended(err error) error {
	closed, isClose := errors.AsType[websocket.CloseError](err)
	switch {
	case c.closed.Load(): // Close waits for it, and cuts
		if isClose || c.socket.failed.Load() || c.ctx.Err() != nil {
			c.cut(net.ErrClosed)
		}
		return fmt.Errorf("ws: reading: %w", net.ErrClosed)
	case isClose && !utf8.ValidString(closed.Reason): // the socket has answered so
		err = &CloseError{StatusInvalidFramePayloadData, "the close reason is not UTF-8"}
	case isClose: // and it has been answered, if a write under way took less than the library waits, 5 s
		err = &CloseError{StatusCode(closed.Code), closed.Reason}
	case c.ctx.Err() != nil:
		err = fmt.Errorf("ws: reading: %w", context.Cause(c.ctx))
	case errors.Is(err, errNotUTF8):
		return c.refuse(StatusInvalidFramePayloadData, err)
	case errors.Is(err, errTooBig):
		return c.refuse(StatusMessageTooBig, fmt.Errorf("a message of more than %d bytes", c.limit))
	case !c.socket.failed.Load():
		return c.refuse(StatusProtocolError, errors.New("what came is not the WebSocket protocol"))
	case errors.Is(err, errCut):
		err = fmt.Errorf("ws: reading: %w: %w", errCut, io.ErrUnexpectedEOF)
	default:
		err = fmt.Errorf("ws: reading: %w", err)
	}
	c.cut(err)
	return err
}

// refuse closes the connection because of what the peer sent, without waiting for
// it. What it goes on to send is read for a while, whatever else closes the
// connection meanwhile: with unread bytes it would be reset, and the close frame
// might never be seen.
func (c *Conn) refuse(code StatusCode, what error) error {
	why := &CloseError{code, what.Error()}
	c.refused.Store(true) // first: who fails because of closing finds out why
	c.closing.Store(true)
	timer := time.AfterFunc(c.timeout, func() { c.cut(why) }) // who has the turn may have no deadline
	_ = c.socket.close(why)                                   // the library may have sent one already; then this does nothing
	c.cancel(why)
	_ = c.socket.SetReadDeadline(time.Now().Add(c.timeout))
	go func() {
		_, _ = io.Copy(io.Discard, c.socket.Conn)
		timer.Stop()
		c.cut(why)
	}()
	return why
}

// cut ends the connection without a word more. The first reason stands, but for
// what happens on the way once Close was called.
func (c *Conn) cut(why error) {
	c.cutting.Do(func() {
		if c.closed.Load() {
			why = net.ErrClosed
		}
		c.closing.Store(true)
		c.cancel(why)
		if c.beat != nil {
			c.beat.Stop()
		}
		tcp.HangUp(c.socket.Conn)
		_ = c.library.CloseNow()
	})
}

// Write sends a message in one frame. Messages of concurrent Writes go out one
// after the other; ctx bounds the wait for the turn, and if it ends then, nothing
// was sent and the connection stays. Any other error is the end of the
// connection, unless p is said to be Text and is not UTF-8.
func (c *Conn) Write(ctx context.Context, t MessageType, p []byte) error {
	switch {
	case t != Text && t != Binary:
		return fmt.Errorf("ws: writing: %d is no MessageType", t)
	case t == Text && !utf8.Valid(p):
		return errors.New("ws: writing: Text must be UTF-8: send it as Binary")
	}
	var frames net.Buffers
	if c.socket.deflates {
		frames = net.Buffers{c.deflater.appendFrame(nil, byte(t), p, c.socket.client)}
	} else if c.socket.client || len(p) <= 4096 {
		frames = net.Buffers{appendFrame(make([]byte, 0, maxHeader+len(p)), byte(t), p, c.socket.client)}
	} else {
		frames = net.Buffers{appendHeader(nil, byte(t), len(p), false), p}
	}
	if err := c.socket.turn.take(ctx); err != nil {
		return fmt.Errorf("ws: writing: %w", err)
	}
	defer c.socket.done(nil)
	if c.closing.Load() {
		return fmt.Errorf("ws: writing: %w", net.ErrClosed)
	}
	if err := c.socket.write(nil, frames...); err != nil {
		return fmt.Errorf("ws: writing: %w", err)
	}
	return nil
}

// ReadJSON reads a message and decodes it into v. A message that does not fit v
// is an error that leaves the connection as it is.
func (c *Conn) ReadJSON(ctx context.Context, v any) error {
	_, data, err := c.Read(ctx)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("ws: the message is not the JSON that was expected: %w", err)
	}
	return nil
}

// WriteJSON sends v as JSON, in a text message.
func (c *Conn) WriteJSON(ctx context.Context, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("ws: %w", err)
	}
	return c.Write(ctx, Text, data)
}

// CloseRead is for those who only write: control frames are answered from now on,
// and the end of the connection ends its Context. A message from the peer closes
// it with 1008. Read is not called after it.
func (c *Conn) CloseRead() {
	go func() {
		for {
			if _, _, err := c.Read(context.Background()); err != nil {
				return
			}
			if !c.closed.Load() {
				c.refuse(StatusPolicyViolation, errors.New("no message is expected"))
				return
			}
		}
	}()
}

// Close closes the connection with a status and a reason, and waits for the peer
// to answer: at most WriteTimeout in all. The reason must be fit for strangers; it
// is cut to 123 bytes between two runes. What the peer sends meanwhile is
// discarded. The error says that the close frame could not be sent.
func (c *Conn) Close(code StatusCode, reason string) error {
	if !code.sendable() {
		return fmt.Errorf("ws: closing: status %d cannot be sent", code)
	}
	if c.closing.Swap(true) {
		return fmt.Errorf("ws: closing: %w", net.ErrClosed)
	}
	c.closed.Store(true)
	timer := time.AfterFunc(c.timeout, func() { c.cut(net.ErrClosed) })
	defer timer.Stop()
	if err := c.socket.close(&CloseError{code, strings.ToValidUTF8(reason, "\uFFFD")}); err != nil {
		c.cut(err)
		return fmt.Errorf("ws: closing: %w", err)
	}
	if c.reading.take(c.ctx) == nil { // else whoever reads has seen the end
		for {
			if r, _ := c.await(context.Background()); r.err != nil {
				break
			}
		}
		if c.ctx.Err() == nil { // what came cannot be read on as frames
			_, _ = io.Copy(io.Discard, c.socket.Conn)
		}
		c.reading.letGo()
	}
	c.cut(net.ErrClosed)
	return nil
}

// CloseNow ends the connection without a close frame. One that was closed for what
// the peer sent has a moment more, WriteTimeout at most, in which the peer can see
// why. The error is always nil.
func (c *Conn) CloseNow() error {
	if c.refused.Load() {
		return nil
	}
	if !c.closing.Swap(true) {
		c.closed.Store(true)
	}
	c.cut(net.ErrClosed)
	return nil
}
