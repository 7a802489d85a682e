package delivery

import (
	"context"
	"sync/atomic"
)

// life is the context of a stream that outlives its request. It ends with the stream.
// The values of the request's context can be asked for until they are let go of: what
// is kept of a request, routers use again, and it takes more than all the rest of an
// idle stream.
type life struct {
	context.Context
	values atomic.Pointer[context.Context]
}

func newLife(values context.Context) (*life, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	l := &life{Context: ctx}
	l.values.Store(&values)
	return l, cancel
}

func (l *life) Value(key any) any {
	if v := l.Context.Value(key); v != nil {
		return v // context's own: what is derived from here hangs on this context
	}
	if values := l.values.Load(); values != nil {
		return (*values).Value(key)
	}
	return nil
}

// letGo lets go of the values.
func (l *life) letGo() { l.values.Store(nil) }
