package middleware_test

import "testing"

// example stands for the *testing.T of a test, which an example has not.
type example struct {
	testing.TB
	cleanups []func()
}

func (e *example) Helper()             {}
func (e *example) Cleanup(f func())    { e.cleanups = append(e.cleanups, f) }
func (e *example) Logf(string, ...any) {}
func (e *example) end() {
	for i := range e.cleanups {
		e.cleanups[len(e.cleanups)-1-i]()
	}
}
