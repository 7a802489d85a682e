package diagnosis

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// Chain is a ResponseWriter and those that it wraps, the outermost first, as
// http.ResponseController walks them.
type Chain []http.ResponseWriter

// ChainOf returns the chain of w.
func ChainOf(w http.ResponseWriter) Chain {
	c := Chain{w}
	for {
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return c
		}
		w = wrapper.Unwrap()
		c = append(c, w)
	}
}

// Opaque names the writer that hides what it wraps, or where the chain ends.
func (c Chain) Opaque() string { return fmt.Sprintf("%T", c[len(c)-1]) }

// Has reports whether a writer in the chain implements T.
func Has[T any](c Chain) bool {
	for _, w := range c {
		if _, ok := w.(T); ok {
			return true
		}
	}
	return false
}

// Deadline says that the request's context will end by itself, if it will.
func Deadline(ctx context.Context) error {
	at, ok := ctx.Deadline()
	if !ok {
		return nil
	}
	return fmt.Errorf("the request's context ends after %v, and the stream with it: a timeout middleware is the usual cause; "+
		"mount the stream outside of it, or middleware.Bypass outside of both", time.Until(at).Round(10*time.Millisecond))
}

// Remedy says what to do about a wrapper without Unwrap.
const Remedy = "give it an Unwrap() http.ResponseWriter method, mount the stream outside of the middleware that it belongs to, or middleware.Bypass outside of both"
