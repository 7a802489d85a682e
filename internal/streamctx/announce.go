package streamctx

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"
)

const (
	// announceTimeout is how long a stream waits for the wrappers before it begins.
	announceTimeout = time.Second

	// returnTimeout is how long it waits for them before its handler returns.
	returnTimeout = 9 * time.Second
)

// Announce lets the wrappers that a stream goes past know that the request is being
// answered: they see a status and the beginning of a body, which reach nobody. Middleware
// that acts when a response begins, such as one that saves sessions, would else act when
// the stream has ended, hours later. Fields that the wrappers then add to their header,
// such as Set-Cookie, are added to the stream's, unless they describe the content or set
// sets them: set sets the stream's own fields, which the wrappers see; it may be nil.
//
// It is called after Take and before anything is written. Without a Bypass the stream
// writes through the wrappers, and Announce does nothing. A wrapper that panics or takes
// longer than a second is logged, at most once a second for each Bypass, and the stream
// begins all the same. If logger is nil, it is slog.Default().
func (c *Claim) Announce(status int, set func(http.Header), logger *slog.Logger) {
	if c.bypass == nil {
		return
	}
	if _, ok := c.w.(*bypassWriter); ok {
		return // there is no wrapper
	}
	own := make(http.Header)
	header := c.w.Header()
	if set != nil && header != nil {
		set(own)
		set(header)
	}
	before := header.Clone()
	announced := make(chan error, 1)
	c.announcing = announced
	go func() {
		err := errors.New("it has called runtime.Goexit")
		defer func() { announced <- err; close(announced) }()
		err = announce(c.w, status, c.head)
	}()
	timer := time.NewTimer(announceTimeout)
	defer timer.Stop()
	var err error
	select {
	case err = <-announced:
		c.adopt(before, c.w.Header(), own)
	case <-timer.C:
		err = fmt.Errorf("it takes longer than %v", announceTimeout)
	}
	if err != nil && c.bypass.failures.mayLog(time.Now()) {
		cmp.Or(logger, slog.Default()).Warn("a wrapper below middleware.Bypass fails in WriteHeader when a stream begins, which goes past it",
			"wrapper", fmt.Sprintf("%T", c.w), "error", err)
	}
}

// failures bounds how many failed announcements of a Bypass are logged: each stream that
// begins may have one, and clients begin streams as fast as they like.
type failures struct{ logged atomic.Int64 } // when one was logged last, in Unix nanoseconds

// mayLog reports whether a failure may be logged now.
func (f *failures) mayLog(now time.Time) bool {
	last := f.logged.Load()
	return now.UnixNano()-last >= int64(time.Second) && f.logged.CompareAndSwap(last, now.UnixNano())
}

// announce answers a request through the wrappers. What they pass on is dropped.
func announce(w http.ResponseWriter, status int, head bool) error {
	err := recovered(func() {
		w.WriteHeader(status)
		if status != http.StatusSwitchingProtocols && !head {
			_, _ = w.Write([]byte(":\n")) // some act at the first byte, or store the status until then
		}
	})
	// The writer of gin stores the status until something is written or flushed. A Flush
	// that gets no further is an error of some wrappers, and a panic of others.
	_ = recovered(func() { _ = http.NewResponseController(w).Flush() })
	return err
}

// recovered calls f, and returns its panic as an error.
func recovered(f func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			stack := debug.Stack()
			err = fmt.Errorf("panic: %.300s\n%s", fmt.Sprint(p), stack[:min(len(stack), 8<<10)]) // a client may have chosen a part of it
		}
	}()
	f()
	return nil
}

// adopt adds to the stream's header what the wrappers have changed in theirs, but for
// the stream's own fields and those that describe the content.
func (c *Claim) adopt(before, after, own http.Header) {
	server := c.Writer.Header()
	keeps := func(name string) bool {
		_, ok := own[name]
		return ok || describesContent(name)
	}
	for name, values := range after {
		if !keeps(name) && !slices.Equal(before[name], values) {
			server[name] = slices.Clone(values)
		}
	}
	for name := range before {
		if _, ok := after[name]; !ok && !keeps(name) {
			delete(server, name)
		}
	}
}

// AwaitWrappers waits until the announcement has ended, for some seconds at most. It is
// called, without a lock, after Leave and before the handler returns: routers use their
// wrappers for other requests after that.
func (c *Claim) AwaitWrappers() {
	if c.announcing == nil {
		return
	}
	timer := time.NewTimer(returnTimeout)
	defer timer.Stop()
	select {
	case <-c.announcing:
	case <-timer.C:
	}
}
