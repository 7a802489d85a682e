package ws

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"time"

	"github.com/fanfare-go/fanfare/internal/delivery"
)

// streamConn is the socket of a Handler's client as a delivery.Conn. The stream's writer
// writes to it, and an inbox reads.
//
// It is the socket, and no struct with pointers to what it needs: each pointer on the way to a
// write is a cache line that is fetched for every delivery.
type streamConn socket

var _ delivery.Conn = (*streamConn)(nil)

func (c *streamConn) socket() *socket { return (*socket)(c) }
func (c *streamConn) inbox() *inbox   { return c.conn.reading.inbox }

// Write writes the frames of messages.
func (c *streamConn) Write(frames net.Buffers, w *delivery.Worker) error {
	return c.socket().send(frames, w)
}

// Beat does nothing: checkPeer sends pings, when nothing comes in.
func (c *streamConn) Beat(*delivery.Worker) error { return nil }

// Tick checks the peer.
func (c *streamConn) Tick() time.Duration { return c.conn.checkPeer() }

// Closing sets one deadline for what is still to be written and for the peer's answer to
// the close frame.
func (c *streamConn) Closing() {
	c.inbox().ended.Store(true)
	c.out.deadline.Fix()
	timer := time.AfterFunc(c.conn.timeout, c.Cut)
	context.AfterFunc(c.conn.ctx, func() { timer.Stop() })
}

// Cut ends the connection.
func (c *streamConn) Cut() { c.conn.cut(net.ErrClosed) }

// End writes a close frame, or cuts the connection if the reason has no code. The inbox
// reads the peer's answer, unless Closing's deadline ends the connection before.
func (c *streamConn) End(why delivery.Reason) {
	if why.Code == 0 {
		// After a close frame the goroutine that reads ends the connection, and after a
		// failed write its writer does.
		if c.out.state.load() == writable && c.conn.phase.load() != closing { // Close cuts it
			c.Cut()
		}
		return
	}
	if why.Complete {
		c.inbox().drain(time.After(c.conn.timeout / 2)) // the other half is for the close frame
	}
	c.conn.decide(ending, closeFrame(why))
	_ = c.socket().close()
}

// closeFrame is what the close frame of a stream says that ends for a reason with a code.
func closeFrame(why delivery.Reason) *CloseError {
	return &CloseError{StatusCode(why.Code), strings.ToValidUTF8(why.Text, "\uFFFD")}
}

// endOfReading returns the reason of a stream that ends with an error of Read.
func endOfReading(err error) delivery.Reason {
	why := delivery.PeerGone
	switch code := CloseStatus(err); {
	case errors.Is(err, errSilent):
		why.Name = "peer silent"
	case isRefusal(err):
		why.Name, why.Detail = cmp.Or(refusalNames[code], "closed by the client"), err.Error()
	case code != -1:
		why.Name, why.Detail = "closed by the client", err.Error()
	}
	return why
}

// refusalNames are the names of what a connection is refused for.
var refusalNames = map[StatusCode]string{
	StatusProtocolError:           "not the protocol",
	StatusInvalidFramePayloadData: "not UTF-8",
	StatusMessageTooBig:           "too big",
}

// endOfReceive returns the reason of a stream that ends with an error of Receive's
// function.
func endOfReceive(err error) delivery.Reason {
	if closed, ok := errors.AsType[*CloseError](err); ok && closed.Code.sendable() {
		return delivery.Reason{Name: "closed by Receive", Code: int(closed.Code), Text: closed.Reason}
	}
	if errors.Is(err, io.EOF) {
		return delivery.Reason{Name: "closed by Receive", Code: int(StatusNormalClosure)}
	}
	return delivery.Fault
}
