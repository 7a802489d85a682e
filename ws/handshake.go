package ws

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"github.com/fanfare-go/fanfare/internal/streamctx"
	"github.com/fanfare-go/fanfare/internal/tcp"
	"github.com/fanfare-go/fanfare/internal/wrappers"
)

// accept upgrades a request that has passed check. The Conn's context has the values of
// ctx. If accept returns an error, the request has been answered.
func accept(ctx context.Context, w http.ResponseWriter, r *http.Request, buffers *tcp.Buffers, d *deflater, o *Options) (*Conn, error) {
	s := new(socket) // apart from the handshake, which does not live as long
	h := &handshake{ResponseWriter: w, socket: s, buffers: buffers, timeout: o.WriteTimeout}
	_, h.known = wrappers.Sent(w)
	if o.Compression {
		r, h.window = withOffer(r)
	}
	streamctx.DropContent(h.Header()) // of layers that do not see the connection's bytes
	done := false
	defer func() {
		if !done && s.Conn != nil { // also after a panic: net/http does not close what was hijacked
			tcp.HangUp(s.Conn)
		}
	}()
	library, err := websocket.Accept(h, r, &websocket.AcceptOptions{
		Subprotocols:       offered(r.Header, o.Subprotocols),
		InsecureSkipVerify: true, // the origin was checked
		CompressionMode:    o.mode(),
	})
	if err != nil {
		return nil, &HandshakeError{Status: http.StatusInternalServerError, Err: err}
	}
	done = true
	s.deflates = deflates(h.Header())
	streamctx.MarkHijacked(ctx)
	return newConn(ctx, library, s, d, o), nil
}

// handshake is the http.ResponseWriter that the library hijacks. It attaches the socket to
// the connection, and sees to it that the 101 is written whatever the wrappers of the
// server's ResponseWriter do with it:
//
//   - They get the status first, as with any response, so that logs have it and sessions
//     are saved. Hijack then writes the 101 if it has not reached the server.
//   - Where the server's ResponseWriter cannot be found below the wrappers, nobody could
//     say afterwards whether it has. They do not get the status, and Hijack writes it.
type handshake struct {
	http.ResponseWriter
	socket  *socket
	buffers *tcp.Buffers
	timeout time.Duration
	known   bool // it can be known whether a status has reached the server
	window  bool // the response repeats server_max_window_bits=15
	begun   bool // the wrappers have got the 101, and no other response can follow
}

func (h *handshake) WriteHeader(status int) {
	if h.begun {
		return // of the library, about a Hijack that has failed
	}
	if status != http.StatusSwitchingProtocols {
		h.ResponseWriter.WriteHeader(status)
		return
	}
	if h.window {
		h.Header().Set(extensions, h.Header().Get(extensions)+"; "+fullWindow)
	}
	if !h.known {
		return
	}
	h.begun = true
	h.ResponseWriter.WriteHeader(status)
	// The writer of gin only stores the status.
	if gin, _, ok := wrappers.Find[interface{ WriteHeaderNow() }](h.ResponseWriter); ok {
		gin.WriteHeaderNow()
	}
}

func (h *handshake) Write(b []byte) (int, error) {
	if h.begun {
		return len(b), nil
	}
	return h.ResponseWriter.Write(b)
}

// Hijack hijacks the connection and attaches the socket to it.
func (h *handshake) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, buffered, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		if h.begun {
			h.hangUp()
		}
		return nil, nil, err
	}
	h.begun = true
	h.socket.Conn = c
	_ = c.SetDeadline(time.Time{})
	if err := h.writeHead(c); err != nil {
		return nil, nil, err
	}
	var already []byte
	if n := buffered.Reader.Buffered(); n > 0 {
		b, _ := buffered.Reader.Peek(n)
		already = append(already, b...)
	}
	h.socket.attach(c, already, h.buffers, h.timeout)
	// The library reads and writes nothing, and is dropped after the handshake.
	return h.socket, bufio.NewReadWriter(bufio.NewReaderSize(h.socket, 16), bufio.NewWriterSize(h.socket, 16)), nil
}

// hangUp ends the connection after a wrapper's Hijack has failed, by the Hijack of what
// it wraps: the server has a 101 to send, and would parse what follows as requests.
func (h *handshake) hangUp() {
	for _, w := range wrappers.All(h.ResponseWriter)[1:] {
		hijacker, ok := w.(http.Hijacker)
		if !ok {
			continue
		}
		if c, _, err := hijacker.Hijack(); err == nil {
			tcp.HangUp(c)
			return
		}
	}
}

// notIn101 are the headers of a response with a body, which wrappers may have set.
var notIn101 = map[string]bool{"Content-Encoding": true, "Content-Length": true, "Trailer": true, "Transfer-Encoding": true}

// writeHead writes the 101 unless the server has.
func (h *handshake) writeHead(c net.Conn) error {
	switch status, _ := wrappers.Sent(h.ResponseWriter); {
	case h.known && status == http.StatusSwitchingProtocols:
		return nil
	case status != 0:
		return fmt.Errorf("a wrapper of the http.ResponseWriter has answered with %d", status)
	}
	var head bytes.Buffer
	head.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = h.Header().WriteSubset(&head, notIn101) // writes to a bytes.Buffer do not fail
	head.WriteString("\r\n")
	if h.timeout > 0 {
		_ = c.SetWriteDeadline(time.Now().Add(h.timeout))
		defer func() { _ = c.SetWriteDeadline(time.Time{}) }()
	}
	_, err := c.Write(head.Bytes())
	return err
}
