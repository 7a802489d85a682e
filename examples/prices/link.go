package main

import (
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// links makes the streams of a page slow, as the link of a phone does. A page has a name of
// its own, which it sends as the parameter page.
type links struct {
	rates sync.Map // by page and path of a stream that is open: *atomic.Int64, bytes a second, 0 if not limited
}

// slow is a middleware for a stream.
func (l *links) slow(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		link := &slowWriter{ResponseWriter: w, rate: new(atomic.Int64), ended: r.Context().Done()}
		name := r.URL.Query().Get("page") + r.URL.Path
		l.rates.Store(name, link.rate)
		defer l.rates.CompareAndDelete(name, link.rate)
		next.ServeHTTP(link, r)
	})
}

// set answers POST /link?page=NAME&rate=BYTES.
func (l *links) set(w http.ResponseWriter, r *http.Request) {
	rate, err := strconv.ParseInt(r.FormValue("rate"), 10, 32)
	if err != nil || rate != 0 && rate < 1024 {
		http.Error(w, "rate is 0, for no limit, or at least 1024 bytes a second", http.StatusBadRequest)
		return
	}
	for _, path := range []string{"/keyed", "/unkeyed"} {
		if v, ok := l.rates.Load(r.FormValue("page") + path); ok {
			v.(*atomic.Int64).Store(rate)
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// slowWriter writes a tenth of a second's bytes at a time, and then waits.
type slowWriter struct {
	http.ResponseWriter
	rate  *atomic.Int64
	ended <-chan struct{}
}

func (w *slowWriter) Write(p []byte) (written int, err error) {
	for written < len(p) {
		part := p[written:]
		if rate := int(w.rate.Load()); rate > 0 {
			part = part[:min(len(part), rate/10)]
			select {
			case <-time.After(time.Duration(len(part)) * time.Second / time.Duration(rate)):
			case <-w.ended:
			}
		}
		n, err := w.ResponseWriter.Write(part)
		if written += n; err != nil {
			return written, err
		}
		if err := http.NewResponseController(w.ResponseWriter).Flush(); err != nil {
			return written, err
		}
	}
	return written, nil
}

// Unwrap lets streams flush and set deadlines.
func (w *slowWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
