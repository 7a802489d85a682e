package ws

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/fanfare-go/fanfare/internal/tcp"
)

// refusalError is the CloseError of a connection that is closed for what the peer has
// sent. It is not the CloseError of a peer that closed the connection.
type refusalError struct{ *CloseError }

func (e refusalError) Unwrap() error { return e.CloseError }

// Close closes the connection with a close frame and waits for the peer's, for up to
// WriteTimeout in all (10 s if that is off). What the peer sends meanwhile is
// discarded. The reason is sent to the peer; it is cut to 123 bytes, between two runes,
// and bytes that are not UTF-8 are replaced.
//
// A code that may not be sent (RFC 6455 section 7.4) is an error that leaves the
// connection open. Other errors are that the connection was closed before
// (net.ErrClosed), and that the close frame could not be sent. A peer that does not
// answer is no error.
func (c *Conn) Close(code StatusCode, reason string) error {
	if !code.sendable() {
		return fmt.Errorf("ws: closing: status %d cannot be sent", code)
	}
	if from, changed := c.decide(closing, &CloseError{code, strings.ToValidUTF8(reason, "\uFFFD")}); !changed {
		if from == open { // the peer's close frame is being answered, which a CloseNow after this must not cut
			<-c.ctx.Done()
		}
		return fmt.Errorf("ws: closing: %w", net.ErrClosed)
	}
	c.reading.interruptEnd()
	timer := time.AfterFunc(c.timeout, func() { c.cut(net.ErrClosed) })
	defer timer.Stop()
	if err := c.socket.close(); err != nil {
		c.cut(err)
		return fmt.Errorf("ws: closing: %w", err)
	}
	c.awaitClose()
	c.cut(net.ErrClosed)
	return nil
}

// decide changes the phase to next, if that may follow, and makes why the close frame, unless one
// was decided before. So the frame that goes out is that of the first who decided, whoever writes
// it. closing does not follow where another frame was decided: Close has closed nothing then.
//
// Who answers a close frame of the peer's decides with next open, which changes no phase.
func (c *Conn) decide(next phase, why *CloseError) (from phase, changed bool) {
	out := &c.socket.out
	out.mu.Lock()
	defer out.mu.Unlock()
	if next == closing && out.closing != nil {
		return c.phase.load(), false
	}
	from, changed = c.phase.to(next)
	if out.closing == nil && (changed || next != closing) {
		out.closing = why
	}
	return from, changed
}

// awaitClose reads until the peer's close frame, or the end of the connection.
func (c *Conn) awaitClose() {
	if c.reading.lock.lockContext(c.ctx) != nil {
		return // another Read has seen the end
	}
	defer c.reading.lock.unlock()
	for {
		if r, _ := c.await(context.Background()); r.err != nil {
			break
		}
	}
	if c.ctx.Err() == nil { // what came would be refused
		c.socket.discard()
	}
}

// CloseNow ends the connection without a close frame. It also ends a Close that waits. A
// connection that is being closed for what the peer sent is left alone: it ends with the
// peer's close frame, with the peer's end of the connection, or after WriteTimeout, and
// until then the peer can see why. The error is always nil.
func (c *Conn) CloseNow() error {
	if c.phase.load() != refusing {
		c.cut(net.ErrClosed)
	}
	return nil
}

// refuse closes the connection for what the peer has sent, without waiting for the
// peer, and returns the error of Read. If the connection ends for another reason, it
// does nothing and returns that.
func (c *Conn) refuse(code StatusCode, what error) error {
	why := refusalError{&CloseError{code, what.Error()}}
	switch from, changed := c.decide(refusing, why.CloseError); {
	case changed:
	case from == closing:
		return fmt.Errorf("ws: reading: %w", net.ErrClosed)
	default:
		return fmt.Errorf("ws: reading: %w", c.cause())
	}
	// The timer is for a write that is under way and has no deadline.
	timer := time.AfterFunc(c.timeout, func() { c.cut(why) })
	_ = c.socket.close()
	c.cancel(why)
	_ = c.socket.SetReadDeadline(time.Now().Add(c.timeout))
	go func() {
		c.socket.discard()
		timer.Stop()
		c.cut(why)
	}()
	return why
}

// isRefusal reports whether an error of Read is that of a connection that was closed
// for what the peer sent.
func isRefusal(err error) bool {
	_, ok := errors.AsType[refusalError](err)
	return ok
}

// cut ends the connection without another frame. The first cause stands, except that
// once Close was called the cause is net.ErrClosed.
func (c *Conn) cut(cause error) {
	from, changed := c.phase.to(dead)
	if !changed {
		<-c.ctx.Done() // so that the context has ended when Close or CloseNow returns
		return
	}
	if from == closing {
		cause = net.ErrClosed
	}
	c.cancel(cause)
	if c.pingTimer != nil {
		c.pingTimer.Stop()
	}
	in := c.reading.inbox
	if in != nil {
		in.unwatch()
	}
	tcp.HangUp(c.socket.Conn)
	if in != nil {
		in.Ready()
	}
}

// cause returns why a connection ended that is dead or refusing. It waits until that is
// known: until the close frame of a refusal was written.
func (c *Conn) cause() error {
	<-c.ctx.Done()
	return context.Cause(c.ctx)
}
