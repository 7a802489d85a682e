package sse

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/fanfare-go/fanfare/internal/delivery"
	"github.com/fanfare-go/fanfare/internal/streamctx"
	"github.com/fanfare-go/fanfare/internal/tcp"
	"github.com/fanfare-go/fanfare/internal/watch"
)

// detached is the connection of a stream that outlives its handler. Nothing reads from
// it: a watch over the socket finds out that the client has left, or else a write does.
type detached struct {
	// Set by hijack.
	handler *Handler // whose buffers and Options it shares
	conn    net.Conn // socket, where the connection could be detached
	socket  tcp.Detached

	token watch.Token // of the handler's Watch; 0: the socket is not watched. Set by Watch

	deadline delivery.Deadline // safe for concurrent use

	headWritten bool // the head of the response goes out with the first write. Owned by the goroutine that writes
}

// hijack takes over the connection of a request. It returns the connection, and the head
// of the response with the header set so far, which the caller writes.
func (h *Handler) hijack(w http.ResponseWriter, r *http.Request, o Options) (*detached, []byte, error) {
	header := w.Header().Clone()
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil, fmt.Errorf("sse: %w", err)
	}
	_ = conn.SetDeadline(time.Time{})
	boundUnacknowledged(conn, o)
	h.warnIfHidden(r, conn)
	d := &detached{handler: h}
	d.conn = d.socket.Detach(conn)
	d.deadline.Of, d.deadline.Timeout = d.conn, o.WriteTimeout
	return d, responseHead(header, o.Status), nil
}

// responseHead returns the status line and the header of a detached response (RFC 9112
// section 2.1).
func responseHead(header http.Header, status int) []byte {
	streamctx.DropContent(header) // of layers that do not see the connection's bytes
	setHeader(header)
	if header.Get("Date") == "" {
		header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	}
	header.Set("Transfer-Encoding", "chunked") // without the last chunk a cut is no end
	header.Set("Connection", "close")
	var head bytes.Buffer
	fmt.Fprintf(&head, "HTTP/1.1 %03d %s\r\n", status, http.StatusText(status))
	_ = header.Write(&head) // it replaces line breaks within values
	head.WriteString("\r\n")
	return head.Bytes()
}

// chunk returns data as a chunk (RFC 9112 section 7.1), or nothing if data is empty: an
// empty chunk is the last one.
func chunk(data []byte) []byte {
	if len(data) == 0 {
		return nil
	}
	b := make([]byte, 0, len(data)+20)
	b = strconv.AppendInt(b, int64(len(data)), 16)
	b = append(b, "\r\n"...)
	b = append(b, data...)
	return append(b, "\r\n"...)
}

var (
	heartbeatChunk = chunk(heartbeat)
	lastChunk      = []byte("0\r\n\r\n")
)

// Watch implements [delivery.Unread].
func (d *detached) Watch(w *watch.Watch, target watch.Target) (watches bool) {
	d.token, watches = w.Add(tcp.Socket(d.conn), watch.HangUp, target)
	return watches
}

// Write writes chunks in one write.
func (d *detached) Write(chunks net.Buffers, w *delivery.Worker) error {
	if err := delivery.Write(d.conn, tcp.Raw(d.conn), &d.handler.buffers, &d.deadline, chunks, w); err != nil {
		return fmt.Errorf("sse: writing: %w", err)
	}
	d.headWritten = true
	return nil
}

// Beat writes a heartbeat.
func (d *detached) Beat(w *delivery.Worker) error { return d.Write(net.Buffers{heartbeatChunk}, w) }

// Tick does nothing: an event stream does nothing by the clock but send heartbeats.
func (*detached) Tick() time.Duration { return 0 }

// Closing sets one last deadline for all that is still to be written.
func (d *detached) Closing() { d.deadline.Fix() }

// Cut makes a write that is blocked fail.
func (d *detached) Cut() { d.deadline.Cut() }

// End writes the end of the response, unless the stream was cut or the handler aborts, and closes the
// connection. It discards what the client sent after its request: unread bytes would make
// the system reset the connection, and the client might lose what was written last.
func (d *detached) End(why delivery.Reason) {
	cut := why.Code == 0 || d.handler.Abort && !isLast(why)
	if retry := lastRetry(why, d.handler.Options.withDefaults().Retry); retry != nil && d.headWritten {
		_ = d.Write(net.Buffers{chunk(retry)}, nil)
	}
	if !cut && d.headWritten {
		_ = d.Write(net.Buffers{lastChunk}, nil)
	}
	tcp.Discard(tcp.Raw(d.conn), &d.handler.buffers)
	if d.token != 0 {
		d.handler.engine.Watch.Remove(tcp.Socket(d.conn), d.token)
	}
	tcp.HangUp(d.conn)
}
