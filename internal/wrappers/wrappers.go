// Package wrappers walks http.ResponseWriters that wrap each other, as
// http.ResponseController does.
package wrappers

import "net/http"

// Remedy says what to do about a wrapper without Unwrap.
const Remedy = "give it an Unwrap() http.ResponseWriter method, mount the stream outside of the middleware that it belongs to, or middleware.Bypass outside of both"

type unwrapper interface{ Unwrap() http.ResponseWriter }

// Find returns the first of w and what it wraps that implements T. If none does, it
// reports false, and last is the innermost, beyond which nothing can be reached.
func Find[T any](w http.ResponseWriter) (t T, last http.ResponseWriter, ok bool) {
	for {
		if t, ok := w.(T); ok {
			return t, w, true
		}
		wrapper, ok := w.(unwrapper)
		if !ok {
			return t, w, false
		}
		w = wrapper.Unwrap()
	}
}

// All returns w and all that it wraps, the outermost first.
func All(w http.ResponseWriter) []http.ResponseWriter {
	all := []http.ResponseWriter{w}
	for {
		wrapper, ok := w.(unwrapper)
		if !ok {
			return all
		}
		w = wrapper.Unwrap()
		all = append(all, w)
	}
}
