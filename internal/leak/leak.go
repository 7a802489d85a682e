// Package leak finds goroutines that a package's tests have not ended.
package leak

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Main is for TestMain: it runs the tests, and fails them if goroutines are still running
// five seconds later.
func Main(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if left := wait(5 * time.Second); left != "" {
			fmt.Fprintf(os.Stderr, "goroutines are still running:\n\n%s\n", left)
			code = 1
		}
	}
	os.Exit(code)
}

// wait waits up to d for goroutines to end, and returns the stacks of the rest.
func wait(d time.Duration) string {
	for deadline := time.Now().Add(d); ; {
		left := stacks()
		if left == "" || time.Now().After(deadline) {
			return left
		}
		<-time.After(10 * time.Millisecond)
	}
}

// stacks returns the stacks of all goroutines but this one and those of the testing and
// os/signal packages.
func stacks() string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var left []string
	for i, stack := range strings.Split(string(buf), "\n\n") {
		if i == 0 || strings.Contains(stack, "testing.(*M).") || strings.Contains(stack, "os/signal.") {
			continue
		}
		left = append(left, stack)
	}
	return strings.Join(left, "\n\n")
}
