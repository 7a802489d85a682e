package streamctx

import (
	"context"
	"errors"
	"net/http"
	"sync"
)

// Bypass is the way from a stream to the server's own ResponseWriter and context,
// past all that stands in between. What stands in between has a gate to write
// through, which the stream closes when it takes the writer.
type Bypass struct {
	w      http.ResponseWriter
	ctx    context.Context
	cancel context.CancelCauseFunc

	io      sync.Mutex // held over what is written through the gate; taken before mu
	mu      sync.Mutex // guards state, and what the server's header is
	header  http.Header
	state   bypassState
	streams sync.WaitGroup
}

type bypassState int

const (
	untouched bypassState = iota
	answered              // through the gate
	taken                 // by a stream
	over                  // the request is
)

type bypassKey struct{}

// NewBypass returns the way to w, and the request to hand on with the way in its
// context.
func NewBypass(w http.ResponseWriter, r *http.Request) (*Bypass, *http.Request) {
	d := &Bypass{w: w, header: w.Header().Clone()}
	if d.header == nil {
		d.header = make(http.Header)
	}
	d.ctx, d.cancel = context.WithCancelCause(r.Context())
	return d, r.WithContext(context.WithValue(r.Context(), bypassKey{}, d))
}

var errOver = errors.New("the request is over")

// Close is called when the handlers below have returned. It waits for a stream that
// has taken the writer; abort ends it.
func (d *Bypass) Close(abort bool) {
	d.io.Lock()
	d.mu.Lock()
	if d.state != taken {
		d.copyHeader(d.header) // for an answer without a byte, and for trailers
		d.state = over
	}
	d.mu.Unlock()
	d.io.Unlock()
	if abort {
		d.cancel(errOver)
	}
	d.streams.Wait()
	d.cancel(errOver)
}

// Bypassed reports whether a request has a way past all that follows already.
func Bypassed(ctx context.Context) bool {
	d, _ := ctx.Value(bypassKey{}).(*Bypass)
	return d != nil
}

// snapshot is the header so far. A stream makes it as early as it can: the late answer
// of a timeout sets headers, too, and nothing keeps it from doing so while they are read.
func (d *Bypass) snapshot() http.Header {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state != untouched {
		return nil
	}
	return d.header.Clone()
}

// take gives the writer to a stream, with the header that was set by those in between
// and by the stream's own handler.
func (d *Bypass) take(before, own http.Header) error {
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
	d.copyHeader(before)
	for name, values := range own {
		d.w.Header()[name] = values
	}
	return nil
}

// copyHeader makes the server's header what it is here.
func (d *Bypass) copyHeader(header http.Header) {
	server := d.w.Header()
	clear(server)
	for name, values := range header {
		server[name] = values
	}
}
