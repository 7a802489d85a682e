package sse

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"github.com/fanfare-go/fanfare/internal/delivery"
	"github.com/fanfare-go/fanfare/internal/tcp"
)

// detached is the connection of a stream that outlives its handler. Nothing reads from
// it: that the client has left, a write finds out.
type detached struct {
	conn     net.Conn
	raw      syscall.RawConn
	deadline delivery.Deadline
	buffers  *tcp.Buffers // the handler's
	begun    bool         // the head of the response went out
}

// hijack takes the connection, and returns it with the head of the response, which is
// still to be written. It has all of the header that was set so far.
func hijack(w http.ResponseWriter, buffers *tcp.Buffers, o Options) (*detached, []byte, error) {
	header := w.Header().Clone()
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil, fmt.Errorf("sse: %w", err)
	}
	setHeader(header)
	if header.Get("Date") == "" {
		header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	}
	header.Set("Transfer-Encoding", "chunked") // so that a cut does not look like an end
	header.Set("Connection", "close")
	var head bytes.Buffer
	head.WriteString("HTTP/1.1 200 OK\r\n")
	_ = header.Write(&head) // which makes line breaks harmless
	head.WriteString("\r\n")

	_ = conn.SetDeadline(time.Time{})
	tcp.SetUnsent(conn, delivery.MaxUnsent)
	if o.Heartbeat > 0 && o.WriteTimeout > 0 {
		tcp.SetUserTimeout(conn, o.Heartbeat+o.WriteTimeout)
	}
	return &detached{conn: conn, raw: tcp.Raw(conn), deadline: delivery.Deadline{Of: conn, Timeout: o.WriteTimeout}, buffers: buffers}, head.Bytes(), nil
}

// chunk frames data as a chunk of HTTP/1.1 (RFC 9112 section 7.1).
func chunk(data []byte) []byte {
	if len(data) == 0 {
		return nil // an empty chunk would be the end
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

// Write writes chunks in one go.
func (d *detached) Write(chunks net.Buffers, w *delivery.Worker) error {
	if err := delivery.Write(d.conn, d.raw, d.buffers, &d.deadline, chunks, w); err != nil {
		return fmt.Errorf("sse: writing: %w", err)
	}
	d.begun = true
	return nil
}

// Beat writes a heartbeat.
func (d *detached) Beat(w *delivery.Worker) error { return d.Write(net.Buffers{heartbeatChunk}, w) }

// Tick has nothing to do: heartbeats follow what goes out.
func (*detached) Tick() time.Duration { return 0 }

// Closing gives all that is still to be written one deadline.
func (d *detached) Closing() { d.deadline.Fix() }

// Cut lets a write that waits for the client fail.
func (d *detached) Cut() { d.deadline.Cut() }

// End ends the response, unless the stream was cut, and the connection. Nobody has read
// what the client sent behind its request.
func (d *detached) End(why delivery.Reason) {
	if why.Code != 0 && d.begun { // a last chunk without a head would be no HTTP
		_ = d.Write(net.Buffers{lastChunk}, nil)
	}
	tcp.Discard(d.raw, d.buffers)
	tcp.HangUp(d.conn)
}
