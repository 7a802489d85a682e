package ws

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
)

// reading is the state of reading messages. The caller of Read reads them; or a goroutine
// does, if the context of a Read may end before its message comes, or after ReadAhead.
type reading struct {
	lock fifoMutex // locked by Read, and by all that reads in its place

	// Guarded by lock.
	pending chan received // gets the message of a Read whose context has ended; nil: there is none
	ahead   *ahead        // reads all messages; nil before ReadAhead

	err error // how reading ended; owned by the goroutine that runs next

	inbox     *inbox                        // reads for a Handler; nil without one. Set before the first read
	interrupt atomic.Pointer[chan struct{}] // closed by Close: inbox.drain must not wait for its caller
}

// interruptible returns a channel that is closed when Close is called after that.
func (r *reading) interruptible() <-chan struct{} {
	interrupt := make(chan struct{})
	if r.interrupt.CompareAndSwap(nil, &interrupt) {
		return interrupt
	}
	return *r.interrupt.Load()
}

// interruptEnd is called by Close.
func (r *reading) interruptEnd() {
	if r.inbox != nil {
		r.inbox.closed.Store(true)
	}
	if interrupt := r.interrupt.Load(); interrupt != nil {
		close(*interrupt)
	}
}

// received is a message, or how reading ended.
type received struct {
	typ  MessageType
	data []byte
	err  error
}

// size is what a waiting message counts; an empty one takes memory too.
func (r received) size() int64 { return int64(len(r.data)) + 64 }

// Read returns the next message. The bytes belong to the caller. If ctx ends first,
// its error is returned and nothing is lost: the next Read returns the message.
//
// Any other error is final, and each later Read returns it again. It holds a
// [CloseError] if the peer closed the connection, or if it was closed for what the peer
// sent: with 1007 for text that is not UTF-8, 1009 for a message larger than MaxMessage,
// 1002 for what is not the WebSocket protocol. After Close it holds net.ErrClosed.
func (c *Conn) Read(ctx context.Context) (MessageType, []byte, error) {
	if err := c.reading.lock.lockContext(ctx); err != nil {
		return 0, nil, fmt.Errorf("ws: %w", err)
	}
	defer c.reading.lock.unlock()
	r, err := c.await(ctx)
	if err != nil {
		return 0, nil, fmt.Errorf("ws: %w", err)
	}
	return r.typ, r.data, r.err
}

// CloseRead starts a goroutine that reads, for a connection that is only written to:
// control frames are answered, and the end of the connection is noticed. A message from
// the peer closes the connection with 1008. The goroutine ends with the connection. Do not
// call Read after CloseRead.
func (c *Conn) CloseRead() {
	go func() {
		for {
			if _, _, err := c.Read(context.Background()); err != nil {
				return
			}
			if c.phase.load() != closing { // Close discards messages
				_ = c.refuse(StatusPolicyViolation, errors.New("no message is expected"))
				return
			}
		}
	}()
}

// await returns the next message, or the error of ctx; then the read goes on, and its
// message is pending. The caller has locked reading.lock.
func (c *Conn) await(ctx context.Context) (received, error) {
	if c.reading.ahead != nil {
		return c.reading.ahead.await(ctx)
	}
	if c.reading.pending == nil {
		if ctx.Done() == nil {
			return c.next(), nil
		}
		pending := make(chan received, 1)
		c.reading.pending = pending
		go func() { pending <- c.next() }()
	}
	select {
	case r := <-c.reading.pending:
		c.reading.pending = nil
		return r, nil
	case <-ctx.Done():
		return received{}, context.Cause(ctx)
	}
}

// nextOrRest returns the next message for an inbox. If nothing of one has come, it reports
// that the inbox may rest until something comes.
func (c *Conn) nextOrRest() (r received, rests bool) {
	c.reading.lock.lock()
	defer c.reading.lock.unlock()
	if c.reading.ahead != nil || c.reading.pending != nil { // somebody else reads
		r, _ = c.await(context.Background())
	} else {
		r = c.read(true)
	}
	return r, r.err == errRests
}

// next reads a message from the connection. Only one call runs at a time.
func (c *Conn) next() received { return c.read(false) }

// read is next, or returns errRests if nothing of a message has come.
func (c *Conn) read(rests bool) received {
	if c.reading.err != nil {
		return received{err: c.reading.err}
	}
	r := c.readMessage(rests)
	if r.err != nil && r.err != errRests {
		c.reading.err = c.readFailed(r.err)
		return received{err: c.reading.err}
	}
	return r
}

// awaitAnswers lets a Handler answer what came in, before the connection is closed for what
// came after it. It is called by the goroutine that reads.
func (c *Conn) awaitAnswers() {
	if c.reading.inbox != nil && c.phase.load() == open {
		c.reading.inbox.beforeEnd()
	}
}

// readFailed ends the connection as an error of readMessage requires, and returns what Read
// returns from now on.
func (c *Conn) readFailed(err error) error {
	closed, isClose := errors.AsType[peerClosed](err)
	failed := c.socket.in.failed
	if !isClose && !failed {
		c.awaitAnswers()
	}
	switch c.phase.load() {
	case closing:
		if isClose || failed { // else Close goes on to discard what comes
			c.cut(net.ErrClosed)
		}
		return fmt.Errorf("ws: reading: %w", net.ErrClosed)
	case refusing, dead:
		if cause := c.cause(); !isClose || cause == net.ErrClosed {
			return fmt.Errorf("ws: reading: %w", cause)
		}
	}
	switch {
	case isClose:
		err = closed.CloseError
	case errors.Is(err, errNotUTF8):
		return c.refuse(StatusInvalidFramePayloadData, err)
	case errors.Is(err, errTooBig):
		err = c.refuse(StatusMessageTooBig, fmt.Errorf("a message of more than %d bytes", c.limit))
		if isRefusal(err) { // the field's name is for this side, and not for the peer
			err = fmt.Errorf("%w: raise Options.MaxMessage to read it", err)
		}
		return err
	case !failed:
		return c.refuse(StatusProtocolError, errProtocol)
	case errors.Is(err, errCut):
		err = fmt.Errorf("ws: reading: %w: %w", errCut, io.ErrUnexpectedEOF)
	default:
		err = fmt.Errorf("ws: reading: %w", err)
	}
	c.cut(err)
	return err
}
