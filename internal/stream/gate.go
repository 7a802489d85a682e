package stream

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"time"
)

// Gate is the http.ResponseWriter of those between a Direct and a stream. Until a
// stream takes the server's own it is as good as that; then whatever comes is
// dropped.
type Gate struct{ d *Direct }

// Gate returns the ResponseWriter to hand on.
func (d *Direct) Gate() *Gate { return &Gate{d} }

// Header returns a header of the gate's own, which the response gets when it is
// written.
func (g *Gate) Header() http.Header { return g.d.header }

// pass calls f if the gate is open.
func (g *Gate) pass(f func(w http.ResponseWriter)) {
	g.d.mu.Lock()
	defer g.d.mu.Unlock()
	if g.d.state == untouched || g.d.state == answered {
		f(g.d.w)
	}
}

// answer is pass for what makes the answer final.
func (g *Gate) answer(f func(w http.ResponseWriter)) {
	g.pass(func(w http.ResponseWriter) {
		if g.d.state == untouched {
			g.d.state = answered
			g.d.copyHeader(g.d.header)
		}
		f(w)
	})
}

// WriteHeader sends a status, unless a stream has taken the writer.
func (g *Gate) WriteHeader(status int) {
	if status >= 100 && status < 200 && status != http.StatusSwitchingProtocols {
		g.pass(func(w http.ResponseWriter) { // the answer is still to come
			g.d.copyHeader(g.d.header)
			w.WriteHeader(status)
		})
		return
	}
	g.answer(func(w http.ResponseWriter) { w.WriteHeader(status) })
}

// Write writes, unless a stream has taken the writer: then nobody is to notice.
func (g *Gate) Write(b []byte) (n int, err error) {
	n = len(b)
	g.answer(func(w http.ResponseWriter) { n, err = w.Write(b) })
	return n, err
}

// ReadFrom lets the server's writer do what it can do best, such as sendfile.
func (g *Gate) ReadFrom(r io.Reader) (n int64, err error) {
	read := false
	g.answer(func(w http.ResponseWriter) {
		read = true
		n, err = io.Copy(w, r)
	})
	if !read {
		return io.Copy(io.Discard, r)
	}
	return n, err
}

// FlushError flushes.
func (g *Gate) FlushError() (err error) {
	g.answer(func(w http.ResponseWriter) { err = http.NewResponseController(w).Flush() })
	return err
}

// Flush flushes.
func (g *Gate) Flush() { _ = g.FlushError() }

// Hijack takes the connection, unless a stream has.
func (g *Gate) Hijack() (c net.Conn, rw *bufio.ReadWriter, err error) {
	err = http.ErrHijacked
	g.answer(func(w http.ResponseWriter) { c, rw, err = http.NewResponseController(w).Hijack() })
	return c, rw, err
}

// Push pushes over HTTP/2, where the server can.
func (g *Gate) Push(target string, opts *http.PushOptions) (err error) {
	err = http.ErrNotSupported
	g.pass(func(w http.ResponseWriter) {
		if p, ok := w.(http.Pusher); ok {
			err = p.Push(target, opts)
		}
	})
	return err
}

// SetReadDeadline sets the connection's, unless that is a stream's.
func (g *Gate) SetReadDeadline(at time.Time) (err error) {
	g.pass(func(w http.ResponseWriter) { err = http.NewResponseController(w).SetReadDeadline(at) })
	return err
}

// SetWriteDeadline sets the connection's, unless that is a stream's.
func (g *Gate) SetWriteDeadline(at time.Time) (err error) {
	g.pass(func(w http.ResponseWriter) { err = http.NewResponseController(w).SetWriteDeadline(at) })
	return err
}

// EnableFullDuplex lets the request's body be read while the response is written.
func (g *Gate) EnableFullDuplex() (err error) {
	g.pass(func(w http.ResponseWriter) { err = http.NewResponseController(w).EnableFullDuplex() })
	return err
}

var _ interface {
	http.Flusher
	http.Hijacker
	http.Pusher
	io.ReaderFrom
} = (*Gate)(nil)
