package stream

import (
	"context"
	"errors"
	"net/http"
	"sync"
)

// Direct is the way from a stream to the server's own ResponseWriter and context,
// past all that stands in between. What stands in between has a gate to write
// through, which the stream closes when it takes the writer.
type Direct struct {
	w      http.ResponseWriter
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu      sync.Mutex // also held over what goes through the gate: it and the stream must not mix
	header  http.Header
	state   directState
	streams sync.WaitGroup
}

type directState int

const (
	untouched directState = iota
	answered              // through the gate
	taken                 // by a stream
	over                  // the request is
)

type directKey struct{}

// NewDirect returns the way to w, and the request to hand on with the way in its
// context.
func NewDirect(w http.ResponseWriter, r *http.Request) (*Direct, *http.Request) {
	d := &Direct{w: w, header: w.Header().Clone()}
	if d.header == nil {
		d.header = make(http.Header)
	}
	d.ctx, d.cancel = context.WithCancelCause(r.Context())
	return d, r.WithContext(context.WithValue(r.Context(), directKey{}, d))
}

var errOver = errors.New("the request is over")

// Close is called when the handlers below have returned. It waits for a stream that
// has taken the writer; abort ends it.
func (d *Direct) Close(abort bool) {
	d.mu.Lock()
	if d.state != taken {
		d.copyHeader(d.header) // for an answer without a byte, and for trailers
		d.state = over
	}
	d.mu.Unlock()
	if abort {
		d.cancel(errOver)
	}
	d.streams.Wait()
	d.cancel(errOver)
}

// take gives the writer to a stream, with the header that was set so far, by those
// in between and by the stream's own handler.
func (d *Direct) take(own http.Header) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch d.state {
	case answered:
		return errors.New("the request has been answered already")
	case taken:
		return errors.New("the request has a stream already")
	case over:
		return errOver
	}
	d.state = taken
	d.streams.Add(1)
	d.copyHeader(d.header)
	for name, values := range own {
		d.w.Header()[name] = values
	}
	return nil
}

// copyHeader makes the server's header what it is here.
func (d *Direct) copyHeader(header http.Header) {
	server := d.w.Header()
	clear(server)
	for name, values := range header {
		server[name] = values
	}
}
