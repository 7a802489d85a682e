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

// bypassWriter is the http.ResponseWriter of the handlers below a Bypass. Until a
// stream claims the server's own it does all that the server's can. After that it
// drops what is written, and reports no error: the handlers need not know.
type bypassWriter struct{ bypass *bypass }

var _ interface {
	http.Flusher
	http.Hijacker
	http.Pusher
	io.ReaderFrom
} = (*bypassWriter)(nil)

// Header returns a header of its own, which is copied to the server's when the
// response is written.
func (w *bypassWriter) Header() http.Header {
	w.bypass.mu.Lock() // a header that is set after this is set after the snapshot of a claim
	defer w.bypass.mu.Unlock()
	return w.bypass.header
}

// pass calls f with the server's writer, unless a stream has claimed that. f must not
// answer the request.
func (w *bypassWriter) pass(f func(server http.ResponseWriter)) {
	if w.bypass.begin() {
		defer w.bypass.calls.Done()
		f(w.bypass.w)
	}
}

// answer calls f with the server's writer, unless a stream has claimed that: none can
// claim it from now on. f may wait for the client; meanwhile deadlines can be set. If
// f returns http.ErrNotSupported, it has not answered.
func (w *bypassWriter) answer(f func(server http.ResponseWriter) error) error {
	b := w.bypass
	b.io.Lock()
	defer b.io.Unlock()
	first, ok := b.beginAnswer()
	if !ok {
		return nil
	}
	defer b.calls.Done()
	if first {
		b.copyHeader(b.header)
	}
	err := f(b.w)
	if first && errors.Is(err, http.ErrNotSupported) {
		b.takeBack()
	}
	return err
}

// WriteHeader sends a status. After an informational one the answer is still to come.
func (w *bypassWriter) WriteHeader(status int) {
	if status < 100 || status >= 200 || status == http.StatusSwitchingProtocols {
		_ = w.answer(func(server http.ResponseWriter) error { server.WriteHeader(status); return nil })
		return
	}
	w.bypass.io.Lock()
	defer w.bypass.io.Unlock()
	w.pass(func(server http.ResponseWriter) {
		w.bypass.copyHeader(w.bypass.header)
		server.WriteHeader(status)
	})
}

// Write writes a part of the response's body.
func (w *bypassWriter) Write(b []byte) (n int, err error) {
	n = len(b)
	err = w.answer(func(server http.ResponseWriter) error { n, err = server.Write(b); return err })
	return n, err
}

// ReadFrom hands a file to the server's writer, which may use sendfile. Any other
// reader is copied with Write: it may itself use this writer while it is read.
func (w *bypassWriter) ReadFrom(r io.Reader) (n int64, err error) {
	file := r
	if limited, ok := r.(*io.LimitedReader); ok {
		file = limited.R
	}
	if _, ok := file.(*os.File); !ok {
		return io.Copy(struct{ io.Writer }{w}, r)
	}
	dropped := true
	err = w.answer(func(server http.ResponseWriter) error {
		dropped = false
		n, err = io.Copy(server, r)
		return err
	})
	if dropped {
		return io.Copy(io.Discard, r)
	}
	return n, err
}

// FlushError sends what has been written.
func (w *bypassWriter) FlushError() error {
	return w.answer(func(server http.ResponseWriter) error { return http.NewResponseController(server).Flush() })
}

// Flush sends what has been written.
func (w *bypassWriter) Flush() { _ = w.FlushError() }

// Hijack returns the connection; http.ErrHijacked if it is a stream's.
func (w *bypassWriter) Hijack() (c net.Conn, rw *bufio.ReadWriter, err error) {
	err = http.ErrHijacked
	_ = w.answer(func(server http.ResponseWriter) error {
		c, rw, err = http.NewResponseController(server).Hijack()
		return err
	})
	return c, rw, err
}

// CloseNotify exists for code that still needs it: gin's Context.Stream panics
// without it.
func (w *bypassWriter) CloseNotify() <-chan bool {
	//lint:ignore SA1019 it is deprecated, and some frameworks still need it
	if c, ok := w.bypass.w.(http.CloseNotifier); ok {
		return c.CloseNotify()
	}
	return make(chan bool)
}

// Push pushes over HTTP/2, where the server can.
func (w *bypassWriter) Push(target string, opts *http.PushOptions) (err error) {
	err = http.ErrNotSupported
	w.pass(func(server http.ResponseWriter) {
		if p, ok := server.(http.Pusher); ok {
			err = p.Push(target, opts)
		}
	})
	return err
}

// SetReadDeadline sets the connection's deadline, unless the connection is a stream's.
func (w *bypassWriter) SetReadDeadline(at time.Time) (err error) {
	w.pass(func(server http.ResponseWriter) { err = http.NewResponseController(server).SetReadDeadline(at) })
	return err
}

// SetWriteDeadline sets the connection's deadline, unless the connection is a
// stream's.
func (w *bypassWriter) SetWriteDeadline(at time.Time) (err error) {
	w.pass(func(server http.ResponseWriter) { err = http.NewResponseController(server).SetWriteDeadline(at) })
	return err
}

// EnableFullDuplex lets the request's body be read while the response is written.
func (w *bypassWriter) EnableFullDuplex() (err error) {
	w.pass(func(server http.ResponseWriter) { err = http.NewResponseController(server).EnableFullDuplex() })
	return err
}
