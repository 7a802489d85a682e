// Package guard turns a panic in a function of the user's into an error, so that
// it ends one stream and not the process.
package guard

import (
	"fmt"
	"runtime/debug"
)

// PanicError is a panic in a function of the user's.
type PanicError struct {
	Where string // the function, such as "Handler.Encode"
	Value any    // what it panicked with
	Stack []byte
}

// Error returns what is worth logging of it, which is bounded: a client may have chosen a
// part of Value, and can make a hook panic as often as it likes.
func (p *PanicError) Error() string {
	return fmt.Sprintf("panic in %s: %.*s\n%s", p.Where, maxValue, fmt.Sprint(p.Value), p.Stack[:min(len(p.Stack), maxStack)])
}

const (
	maxValue = 300     // characters of the value
	maxStack = 8 << 10 // bytes of the stack
)

// Call calls f, and returns its error, or a [*PanicError] if it panics.
func Call(where string, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = Panicked(where, p)
		}
	}()
	return f()
}

// Panicked returns the [*PanicError] of what recover has returned, for a deferred function that
// does what Call does.
func Panicked(where string, recovered any) error {
	return &PanicError{where, recovered, debug.Stack()}
}
