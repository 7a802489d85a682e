package delivery

import (
	"context"
	"sync/atomic"
)

// detachedContext is the context of a stream that outlives its request. It ends with
// the stream. It has the values of the request's context until dropValues: routers use
// a request again, and its values take more memory than the rest of an idle stream.
type detachedContext struct {
	context.Context
	values atomic.Pointer[context.Context]
}

func newDetachedContext(values context.Context) (*detachedContext, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	d := &detachedContext{Context: ctx}
	d.values.Store(&values)
	return d, cancel
}

func (d *detachedContext) Value(key any) any {
	if v := d.Context.Value(key); v != nil {
		return v // package context's own: contexts derived from here depend on this one
	}
	if values := d.values.Load(); values != nil {
		return (*values).Value(key)
	}
	return nil
}

func (d *detachedContext) dropValues() { d.values.Store(nil) }
