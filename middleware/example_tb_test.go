package middleware_test

import "testing"

// example is a testing.TB for an example, which has no *testing.T.
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
