package ssetest_test

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"log"
	"net/http"
	"strings"
	"time"

	chimiddleware "github.com/go-chi/chi/v5/middleware"
)

type middlewareFunc = func(http.Handler) http.Handler

// wrapped is a middleware that wraps the ResponseWriter.
func wrapped(wrap func(http.ResponseWriter) http.ResponseWriter) middlewareFunc {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(wrap(w), r) })
	}
}

// opaque wraps a ResponseWriter and hides what else it can do.
type opaque struct{ http.ResponseWriter }

// open wraps a ResponseWriter, and has Unwrap as it should.
type open struct{ http.ResponseWriter }

func (o open) Unwrap() http.ResponseWriter { return o.ResponseWriter }

// flushOnly passes Flush on, and hides everything else.
type flushOnly struct{ http.ResponseWriter }

func (f flushOnly) Flush() { f.ResponseWriter.(http.Flusher).Flush() }

// pretender holds everything back: its Flush does nothing.
type pretender struct {
	http.ResponseWriter
	buffer *bufio.Writer
}

func (p pretender) Write(b []byte) (int, error) { return p.buffer.Write(b) }
func (p pretender) Flush()                      {}
func (p pretender) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// gzipped compresses, and leaves its own buffer alone when the writer below is flushed.
type gzipped struct {
	http.ResponseWriter
	w *gzip.Writer
}

func (g gzipped) Write(b []byte) (int, error) { return g.w.Write(b) }
func (g gzipped) Unwrap() http.ResponseWriter { return g.ResponseWriter }

// keeping keeps what is written, as an access log does that logs the body.
type keeping struct {
	http.ResponseWriter
	body bytes.Buffer
}

func (k *keeping) Write(b []byte) (int, error) {
	k.body.Write(b)
	return k.ResponseWriter.Write(b)
}

func (k *keeping) Unwrap() http.ResponseWriter { return k.ResponseWriter }

// teeing logs the body when the handler has returned: chi's Tee does the writing.
func teeing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body strings.Builder
		tee := chimiddleware.NewWrapResponseWriter(w, r.ProtoMajor)
		tee.Tee(&body)
		next.ServeHTTP(tee, r)
		_, _ = io.Discard.Write([]byte(body.String()))
	})
}

// neverFlushed is a middleware that compresses and does not flush.
func neverFlushed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		defer z.Close()
		next.ServeHTTP(gzipped{w, z}, r)
	})
}

// header overwrites a header that the stream has set.
type header struct {
	http.ResponseWriter
	name, value string
}

func (h header) Unwrap() http.ResponseWriter { return h.ResponseWriter }

func (h header) WriteHeader(status int) {
	h.Header().Set(h.name, h.value)
	h.ResponseWriter.WriteHeader(status)
}

// quiet is the Logger of chi, which prints nothing.
func quiet(next http.Handler) http.Handler {
	logger := chimiddleware.RequestLogger(&chimiddleware.DefaultLogFormatter{Logger: log.New(io.Discard, "", 0), NoColor: true})
	return logger(next)
}

func timeoutHandler(next http.Handler) http.Handler {
	return http.TimeoutHandler(next, 30*time.Second, "")
}

// asserting panics in Flush where the ResponseWriter that it wraps has none.
type asserting struct{ http.ResponseWriter }

func (r asserting) Flush()                      { r.ResponseWriter.(http.Flusher).Flush() }
func (r asserting) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// buffered has a header of its own, and holds the whole response back.
type buffered struct {
	inner  http.ResponseWriter
	header http.Header
	body   bytes.Buffer
	status int
}

func (b *buffered) Header() http.Header         { return b.header }
func (b *buffered) Write(p []byte) (int, error) { return b.body.Write(p) }
func (b *buffered) Flush()                      {}
func (b *buffered) Unwrap() http.ResponseWriter { return b.inner }

func (b *buffered) WriteHeader(s int) {
	if b.status == 0 {
		b.status = s
	}
}

// labels is a middleware that sets a Content-Encoding, and writes something else.
func labels(label string, encode func(io.Writer) io.Writer) middlewareFunc {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if label != "" {
				w.Header().Set("Content-Encoding", label)
			}
			next.ServeHTTP(encoding{w, encode(w)}, r)
		})
	}
}

// encoding encodes what is written.
type encoding struct {
	http.ResponseWriter
	w io.Writer
}

func (e encoding) Write(b []byte) (int, error) { return e.w.Write(b) }
func (e encoding) Unwrap() http.ResponseWriter { return e.ResponseWriter }
func (e encoding) Flush() {
	if f, ok := e.w.(interface{ Flush() error }); ok {
		f.Flush()
	}
	e.ResponseWriter.(http.Flusher).Flush()
}

func plainly(w io.Writer) io.Writer  { return w }
func gzipping(w io.Writer) io.Writer { return gzip.NewWriter(w) }
func zlibbing(w io.Writer) io.Writer { return zlib.NewWriter(w) }
func deflating(w io.Writer) io.Writer {
	z, _ := flate.NewWriter(w, flate.DefaultCompression)
	return z
}

// twice is a writer that is flushed in two steps.
type twice struct{ outer, inner *gzip.Writer }

func gzippingTwice(w io.Writer) io.Writer {
	outer := gzip.NewWriter(w)
	return twice{outer, gzip.NewWriter(outer)}
}

func (t twice) Write(b []byte) (int, error) { return t.inner.Write(b) }
func (t twice) Flush() error                { return errors.Join(t.inner.Flush(), t.outer.Flush()) }

// prefixed begins as a coding does that is not decoded.
func prefixed(prefix string) func(io.Writer) io.Writer {
	return func(w io.Writer) io.Writer { return &prefixing{w, prefix} }
}

type prefixing struct {
	io.Writer
	prefix string
}

func (p *prefixing) Write(b []byte) (int, error) {
	prefix := p.prefix
	p.prefix = ""
	_, err := p.Writer.Write(append([]byte(prefix), bytes.ReplaceAll(b, []byte("probe"), []byte("xxxxx"))...))
	return len(b), err
}
