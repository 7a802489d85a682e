package delivery

import (
	"context"
	"sync/atomic"
	"time"
)

// lifetime is a context that ends with a stream. It is made for the first that asks for it: of
// most streams nobody does, and a context takes a tenth of what an idle one has.
type lifetime struct {
	context.Context
	end context.CancelFunc
}

// ended is the lifetime of all streams that have ended before anything asked for one.
var ended = func() *lifetime {
	l := newLifetime(context.Background())
	l.end()
	return l
}()

func newLifetime(parent context.Context) *lifetime {
	ctx, cancel := context.WithCancel(parent)
	return &lifetime{ctx, cancel}
}

// live returns the stream's lifetime. That of a stream within its request ends with the
// request too.
func (s *Stream) live() *lifetime {
	if l := s.lifetime.Load(); l != nil {
		return l
	}
	parent := context.Background()
	if !s.detached {
		parent = s.request.Context
	}
	l := newLifetime(parent)
	if !s.lifetime.CompareAndSwap(nil, l) {
		l.end()
	}
	return s.lifetime.Load()
}

// endLifetime ends the stream's context, also for those that ask for it later.
func (s *Stream) endLifetime() {
	if !s.lifetime.CompareAndSwap(nil, ended) {
		s.lifetime.Load().end()
	}
}

// detachedContext is the context of a stream that outlives its request. It ends with
// the stream. It has the values of the request's context until dropValues: routers use
// a request again, and its values take more memory than the rest of an idle stream.
type detachedContext struct {
	stream *Stream
	values atomic.Pointer[context.Context]
}

func newDetachedContext(s *Stream, values context.Context) *detachedContext {
	d := &detachedContext{stream: s}
	d.values.Store(&values)
	return d
}

func (d *detachedContext) dropValues() { d.values.Store(nil) }

// Deadline implements context.Context.
func (d *detachedContext) Deadline() (deadline time.Time, ok bool) { return time.Time{}, false }

// Done implements context.Context.
func (d *detachedContext) Done() <-chan struct{} { return d.stream.live().Done() }

// Err implements context.Context.
func (d *detachedContext) Err() error { return d.stream.live().Err() }

// Value implements context.Context.
func (d *detachedContext) Value(key any) any {
	if l := d.stream.lifetime.Load(); l != nil {
		if v := l.Value(key); v != nil {
			return v // package context's own: contexts derived from here depend on this one
		}
	}
	if values := d.values.Load(); values != nil {
		return (*values).Value(key)
	}
	return nil
}
