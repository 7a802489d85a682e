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

// connection is a Conn as a stream's writer uses it.
type connection struct{ *Conn }

// Write writes frames of messages.
func (c *connection) Write(frames net.Buffers, w *delivery.Worker) error {
	return c.socket.send(frames, w)
}

// Beat has nothing to do: pings follow what comes in, not what goes out.
func (c *connection) Beat(*delivery.Worker) error { return nil }

// Tick looks after the peer.
func (c *connection) Tick() time.Duration { return c.probe() }

// Closing gives what is still to be written, and the peer's answer to the close
// frame, one deadline.
func (c *connection) Closing() {
	c.socket.deadline.Fix()
	timer := time.AfterFunc(c.timeout, func() { c.cut(net.ErrClosed) })
	context.AfterFunc(c.ctx, func() { timer.Stop() })
}

// Cut ends the connection.
func (c *connection) Cut() { c.cut(net.ErrClosed) }

// End writes the close frame. Whoever reads sees the peer's answer, or the
// deadline.
func (c *connection) End(why delivery.Reason) {
	if why.Code == 0 {
		if !c.socket.over.Load() {
			c.cut(net.ErrClosed)
		}
		return
	}
	c.closing.Store(true)
	_ = c.socket.close(&CloseError{StatusCode(why.Code), strings.ToValidUTF8(why.Text, "\uFFFD")})
}

// peer makes the reason of a stream's end from what ended the reading.
func peer(c *Conn, err error) delivery.Reason {
	why := delivery.PeerGone
	switch code := CloseStatus(err); {
	case errors.Is(err, errSilent):
		why.Name = "peer silent"
	case c.refused.Load():
		why.Name, why.Detail = cmp.Or(refusals[code], "closed by the client"), err.Error()
	case code != -1:
		why.Name, why.Detail = "closed by the client", err.Error()
	}
	return why
}

// refusals are what a peer has sent that is told so.
var refusals = map[StatusCode]string{
	StatusProtocolError:           "not the protocol",
	StatusInvalidFramePayloadData: "not UTF-8",
	StatusMessageTooBig:           "too big",
}

// reason makes the reason of a stream's end from an error of Receive's function.
func reason(err error) delivery.Reason {
	if closed, ok := errors.AsType[*CloseError](err); ok && closed.Code.sendable() {
		return delivery.Reason{Name: "closed by Receive", Code: int(closed.Code), Text: closed.Reason}
	}
	if errors.Is(err, io.EOF) {
		return delivery.Reason{Name: "closed by Receive", Code: int(StatusNormalClosure)}
	}
	return delivery.Fault
}
