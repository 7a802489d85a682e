// Package failing runs test helpers that are to fail, and notes what they say.
package failing

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
)

// Said runs f with a testing.TB of its own, then what f has left to Cleanup, and
// returns what was reported as an error, a line each. Neither fails t.
func Said(t testing.TB, f func(t testing.TB)) string {
	n := &noted{TB: t}
	run(func() { f(n) })
	for i := range n.cleanups {
		run(n.cleanups[len(n.cleanups)-1-i])
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.said
}

// run gives f a goroutine, since Fatalf ends the one it is called on.
func run(f func()) {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	<-done
}

// noted is a testing.TB that notes what it is told.
type noted struct {
	testing.TB
	mu       sync.Mutex
	said     string
	cleanups []func()
}

func (n *noted) Helper()             {}
func (n *noted) Cleanup(f func())    { n.cleanups = append(n.cleanups, f) }
func (n *noted) Logf(string, ...any) {}

func (n *noted) Errorf(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.said += fmt.Sprintf(format, args...) + "\n"
}

func (n *noted) Fatalf(format string, args ...any) {
	n.Errorf(format, args...)
	runtime.Goexit()
}
