package streamctx

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// bypassWriter is the http.ResponseWriter of those between a Bypass and a stream. Until a
// stream takes the server's own it is as good as that; then whatever comes is
// dropped.
type bypassWriter struct{ d *Bypass }

// Writer returns the ResponseWriter to hand on.
func (d *Bypass) Writer() http.ResponseWriter { return &bypassWriter{d} }

// Header returns a header of the gate's own, which the response gets when it is
// written.
func (g *bypassWriter) Header() http.Header {
	g.d.mu.Lock() // what is set from here on comes after what a stream has copied
	defer g.d.mu.Unlock()
	return g.d.header
}

// pass calls f, which must not wait, if the gate is open.
func (g *bypassWriter) pass(f func(w http.ResponseWriter)) {
	g.d.mu.Lock()
	defer g.d.mu.Unlock()
	if g.open() {
		f(g.d.w)
	}
}

func (g *bypassWriter) open() bool { return g.d.state == untouched || g.d.state == answered }

// answer calls f with what makes the answer final, if the gate is open. What is
// answered no stream can take, so that f may wait for the client without mu: deadlines
// are set meanwhile. It is no answer if the server cannot do that.
func (g *bypassWriter) answer(f func(w http.ResponseWriter) error) error {
	g.d.io.Lock()
	defer g.d.io.Unlock()
	first := false
	g.d.mu.Lock()
	open := g.open()
	if g.d.state == untouched {
		first = true
		g.d.state = answered
		g.d.copyHeader(g.d.header)
	}
	g.d.mu.Unlock()
	if !open {
		return nil
	}
	err := f(g.d.w)
	if first && errors.Is(err, http.ErrNotSupported) {
		g.d.mu.Lock()
		g.d.state = untouched
		g.d.mu.Unlock()
	}
	return err
}

// WriteHeader sends a status, unless a stream has taken the writer.
func (g *bypassWriter) WriteHeader(status int) {
	if status >= 100 && status < 200 && status != http.StatusSwitchingProtocols {
		g.d.io.Lock()
		defer g.d.io.Unlock()
		g.pass(func(w http.ResponseWriter) { // the answer is still to come
			g.d.copyHeader(g.d.header)
			w.WriteHeader(status)
		})
		return
	}
	_ = g.answer(func(w http.ResponseWriter) error { w.WriteHeader(status); return nil })
}

// Write writes, unless a stream has taken the writer: then nobody is to notice.
func (g *bypassWriter) Write(b []byte) (n int, err error) {
	n = len(b)
	err = g.answer(func(w http.ResponseWriter) error { n, err = w.Write(b); return err })
	return n, err
}

// ReadFrom lets the server's writer do what it can do best with a file, such as
// sendfile. Other readers may do anything with this writer while they are read from, so
// what they give is written as it comes.
func (g *bypassWriter) ReadFrom(r io.Reader) (n int64, err error) {
	file := r
	if limited, ok := r.(*io.LimitedReader); ok {
		file = limited.R
	}
	if _, ok := file.(*os.File); !ok {
		return io.Copy(struct{ io.Writer }{g}, r)
	}
	read := false
	err = g.answer(func(w http.ResponseWriter) error {
		read = true
		n, err = io.Copy(w, r)
		return err
	})
	if !read {
		return io.Copy(io.Discard, r)
	}
	return n, err
}

// FlushError flushes.
func (g *bypassWriter) FlushError() error {
	return g.answer(func(w http.ResponseWriter) error { return http.NewResponseController(w).Flush() })
}

// Flush flushes.
func (g *bypassWriter) Flush() { _ = g.FlushError() }

// Hijack takes the connection, unless a stream has.
func (g *bypassWriter) Hijack() (c net.Conn, rw *bufio.ReadWriter, err error) {
	hijacked := http.ErrHijacked
	err = g.answer(func(w http.ResponseWriter) error {
		c, rw, hijacked = http.NewResponseController(w).Hijack()
		return hijacked
	})
	if err == nil {
		err = hijacked
	}
	return c, rw, err
}

// CloseNotify is for those who rely on it still, such as gin's Context.Stream, which
// panics without.
func (g *bypassWriter) CloseNotify() <-chan bool {
	//lint:ignore SA1019 it is deprecated, and relied on
	if c, ok := g.d.w.(http.CloseNotifier); ok {
		return c.CloseNotify()
	}
	return make(chan bool)
}

// Push pushes over HTTP/2, where the server can.
func (g *bypassWriter) Push(target string, opts *http.PushOptions) (err error) {
	err = http.ErrNotSupported
	g.pass(func(w http.ResponseWriter) {
		if p, ok := w.(http.Pusher); ok {
			err = p.Push(target, opts)
		}
	})
	return err
}

// SetReadDeadline sets the connection's, unless that is a stream's.
func (g *bypassWriter) SetReadDeadline(at time.Time) (err error) {
	g.pass(func(w http.ResponseWriter) { err = http.NewResponseController(w).SetReadDeadline(at) })
	return err
}

// SetWriteDeadline sets the connection's, unless that is a stream's.
func (g *bypassWriter) SetWriteDeadline(at time.Time) (err error) {
	g.pass(func(w http.ResponseWriter) { err = http.NewResponseController(w).SetWriteDeadline(at) })
	return err
}

// EnableFullDuplex lets the request's body be read while the response is written.
func (g *bypassWriter) EnableFullDuplex() (err error) {
	g.pass(func(w http.ResponseWriter) { err = http.NewResponseController(w).EnableFullDuplex() })
	return err
}

var _ interface {
	http.Flusher
	http.Hijacker
	http.Pusher
	io.ReaderFrom
} = (*bypassWriter)(nil)
