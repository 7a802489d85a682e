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

func (p *PanicError) Error() string {
	return fmt.Sprintf("panic in %s: %v\n%s", p.Where, p.Value, p.Stack)
}

// Call calls f, and returns its error, or a [*PanicError] if it panics.
func Call(where string, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &PanicError{where, p, debug.Stack()}
		}
	}()
	return f()
}
