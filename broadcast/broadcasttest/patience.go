package broadcasttest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// patience is how long the suites wait for anything that must happen.
const patience = 10 * time.Second

// background returns a context for a call that must return within patience.
func background(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// within runs f in a goroutine and checks that it returns within patience.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	waitFor(t, done, what)
}

// waitFor waits until a channel is closed or has an element.
func waitFor(t *testing.T, done <-chan struct{}, what string) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		require.Fail(t, "too slow", "waited %v for %s", patience, what)
	}
}
