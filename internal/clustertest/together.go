package clustertest

import (
	"sync"
	"testing"
)

// Scenarios are the scenarios of an engine, each a test of its own.
type Scenarios []struct {
	Name string
	Test func(*testing.T)
}

// together is how many scenarios run at the same time, on however few processors: they mostly
// wait.
const together = 6

// Run runs the scenarios as subtests. Each must have an engine of its own.
func (all Scenarios) Run(t *testing.T) {
	var running sync.WaitGroup
	places := make(chan struct{}, together)
	for _, s := range all {
		running.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			t.Run(s.Name, s.Test)
		})
	}
	running.Wait()
}
