// Package failing runs test helpers that are expected to fail, and returns what they report.
package failing

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
)

// Said runs f with a testing.TB of its own, then the functions that f has passed to its
// Cleanup. It returns what they reported with Errorf and Fatalf, one line each. t does not
// fail.
func Said(t testing.TB, f func(t testing.TB)) string {
	r := &recorder{TB: t}
	run(func() { f(r) })
	for _, cleanup := range slices.Backward(r.cleanups) {
		run(cleanup)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reported
}

// run runs f in a goroutine of its own, because Fatalf ends the goroutine that calls it.
func run(f func()) {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	<-done
}

// recorder is a testing.TB that records errors instead of failing.
type recorder struct {
	testing.TB
	cleanups []func()

	mu       sync.Mutex // guards reported
	reported string
}

func (r *recorder) Helper()             {}
func (r *recorder) Cleanup(f func())    { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Logf(string, ...any) {}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reported += fmt.Sprintf(format, args...) + "\n"
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}
