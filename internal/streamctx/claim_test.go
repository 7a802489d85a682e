package streamctx_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/streamctx"
)

func get() *http.Request { return httptest.NewRequest("GET", "/", nil) }

// bypassed serves h below a Bypass, and returns what the server's writer got.
func bypassed(h http.HandlerFunc) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	streamctx.Bypass(h).ServeHTTP(w, get())
	return w
}

// Without a Bypass a claim is the request's own writer and context, and the writer can
// always be taken.
func TestClaimWithoutBypass(t *testing.T) {
	w, r := httptest.NewRecorder(), get()
	claim := streamctx.ClaimOf(w, r)
	assert.False(t, claim.Bypass())
	assert.Same(t, w, claim.Writer)
	assert.Equal(t, r.Context(), claim.Context)
	require.NoError(t, claim.Take())
	require.NoError(t, claim.Take(), "there is nothing to know it from")
	claim.Leave()
	claim.Leave()
	assert.NoError(t, claim.Context.Err(), "the context is the request's")
}

// Below a Bypass a claim is the server's writer, whatever wraps that, and a context with
// the values of the request's and the end of the server's.
func TestClaimBelowBypass(t *testing.T) {
	type key struct{}
	w := httptest.NewRecorder()
	server, leave := context.WithCancelCause(context.Background())
	gone := errors.New("the client is gone")
	streamctx.Bypass(http.HandlerFunc(func(wrapped http.ResponseWriter, r *http.Request) {
		assert.NotSame(t, w, wrapped)
		ctx, timeout := context.WithCancel(context.WithValue(r.Context(), key{}, "ann"))
		claim := streamctx.ClaimOf(struct{ http.ResponseWriter }{wrapped}, r.WithContext(ctx))
		defer claim.Leave()
		assert.True(t, claim.Bypass())
		assert.Same(t, w, claim.Writer)
		assert.Equal(t, "ann", claim.Context.Value(key{}))
		timeout()
		assert.NoError(t, claim.Context.Err(), "a timeout in between does not end it")
		leave(gone)
		<-claim.Context.Done()
		assert.Equal(t, gone, context.Cause(claim.Context))
	})).ServeHTTP(w, get().WithContext(server))
}

// The context of a claim below a Bypass ends with Leave, so that nothing of it is left.
func TestLeaveEndsTheContext(t *testing.T) {
	bypassed(func(w http.ResponseWriter, r *http.Request) {
		claim := streamctx.ClaimOf(w, r)
		claim.Leave()
		assert.ErrorIs(t, claim.Context.Err(), context.Canceled)
		claim.Leave()
	})
}

// The inner one of two Bypasses does nothing: claims get the outer one's writer.
func TestBypassTwice(t *testing.T) {
	w := httptest.NewRecorder()
	streamctx.Bypass(streamctx.Bypass(http.HandlerFunc(func(wrapped http.ResponseWriter, r *http.Request) {
		claim := streamctx.ClaimOf(wrapped, r)
		defer claim.Leave()
		assert.Same(t, w, claim.Writer)
	}))).ServeHTTP(w, get())
}

// A request is answered or becomes one stream, before it ends.
func TestTake(t *testing.T) {
	for _, test := range []struct {
		name    string
		handler func(t *testing.T, w http.ResponseWriter, claim, other *streamctx.Claim)
		err     string // of claim.Take
	}{
		{"at first", func(*testing.T, http.ResponseWriter, *streamctx.Claim, *streamctx.Claim) {}, ""},
		{"after an empty write", func(_ *testing.T, w http.ResponseWriter, _, _ *streamctx.Claim) { w.Write(nil) }, "answered already"},
		{"after a status", func(_ *testing.T, w http.ResponseWriter, _, _ *streamctx.Claim) { w.WriteHeader(500) }, "answered already"},
		{"after a flush", func(_ *testing.T, w http.ResponseWriter, _, _ *streamctx.Claim) { w.(http.Flusher).Flush() }, "answered already"},
		{"after an informational response", func(_ *testing.T, w http.ResponseWriter, _, _ *streamctx.Claim) { w.WriteHeader(103) }, ""},
		{"after a switch of protocols", func(_ *testing.T, w http.ResponseWriter, _, _ *streamctx.Claim) { w.WriteHeader(101) }, "answered already"},
		{"after a deadline that the server cannot set", func(t *testing.T, w http.ResponseWriter, _, _ *streamctx.Claim) {
			assert.ErrorIs(t, http.NewResponseController(w).SetWriteDeadline(time.Now()), http.ErrNotSupported)
		}, ""},
		{"after a Hijack that the server cannot do", func(t *testing.T, w http.ResponseWriter, _, _ *streamctx.Claim) {
			_, _, err := http.NewResponseController(w).Hijack()
			assert.ErrorIs(t, err, http.ErrNotSupported)
		}, ""},
		{"after a status and a Hijack that the server cannot do", func(t *testing.T, w http.ResponseWriter, _, _ *streamctx.Claim) {
			w.WriteHeader(200)
			_, _, err := http.NewResponseController(w).Hijack()
			assert.ErrorIs(t, err, http.ErrNotSupported)
		}, "answered already"},
		{"after another claim", func(t *testing.T, _ http.ResponseWriter, _, other *streamctx.Claim) {
			assert.NoError(t, other.Take())
		}, "has a stream already"},
		{"after another claim has left", func(t *testing.T, _ http.ResponseWriter, _, other *streamctx.Claim) {
			assert.NoError(t, other.Take())
			other.Leave()
		}, "has a stream already"},
		{"after the same claim", func(t *testing.T, _ http.ResponseWriter, claim, _ *streamctx.Claim) {
			assert.NoError(t, claim.Take())
		}, "has a stream already"},
	} {
		t.Run(test.name, func(t *testing.T) {
			bypassed(func(w http.ResponseWriter, r *http.Request) {
				claim, other := streamctx.ClaimOf(w, r), streamctx.ClaimOf(w, r)
				defer other.Leave()
				defer claim.Leave()
				test.handler(t, w, claim, other)
				if err := claim.Take(); test.err == "" {
					assert.NoError(t, err)
				} else {
					assert.ErrorContains(t, err, test.err)
				}
			})
		})
	}
}

// A claim that was not taken before the handlers returned never is.
func TestTakeAfterTheEnd(t *testing.T) {
	var before, after *streamctx.Claim
	var wrapped http.ResponseWriter
	var request *http.Request
	bypassed(func(w http.ResponseWriter, r *http.Request) {
		before, wrapped, request = streamctx.ClaimOf(w, r), w, r
	})
	require.ErrorContains(t, before.Take(), "has ended")
	before.Leave()
	after = streamctx.ClaimOf(wrapped, request)
	require.ErrorContains(t, after.Take(), "has ended")
	after.Leave()
}

// A stream's header is what the wrappers have set before the claim and what its own
// handler has set, and nothing of what comes later.
func TestHeaderOfAStream(t *testing.T) {
	w := httptest.NewRecorder()
	w.Header().Set("X-Server", "1")
	own := httptest.NewRecorder() // as http.TimeoutHandler's writer: its header is its own
	streamctx.Bypass(http.HandlerFunc(func(wrapped http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "1", wrapped.Header().Get("X-Server"))
		wrapped.Header().Del("X-Server")
		wrapped.Header().Set("X-Wrapper", "1")
		wrapped.Header().Set("X-Both", "wrapper")
		claim := streamctx.ClaimOf(own, r)
		defer claim.Leave()
		own.Header().Set("X-Both", "own")
		wrapped.Header().Set("X-Late", "1")
		assert.NoError(t, claim.Take())
		wrapped.Header().Set("X-Later", "1")
		claim.Writer.WriteHeader(200)
	})).ServeHTTP(w, get())
	assert.Equal(t, http.Header{"X-Wrapper": {"1"}, "X-Both": {"own"}}, w.Result().Header)
}

// A Bypass returns when the handlers have returned and the stream has left.
func TestBypassWaitsForItsStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		w := bypassed(func(w http.ResponseWriter, r *http.Request) {
			claim := streamctx.ClaimOf(w, r)
			assert.NoError(t, claim.Take())
			assert.Error(t, claim.Take(), "this must not make Leave forget the stream")
			time.AfterFunc(time.Minute, func() {
				io.WriteString(claim.Writer, "the end")
				claim.Leave()
				claim.Leave()
			})
		})
		assert.Equal(t, time.Minute, time.Since(start))
		assert.Equal(t, "the end", w.Body.String())
	})
}

// A panic in a handler ends the context of the streams that run beside it, and goes on
// when they have left.
func TestPanicBesideAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left := false
		require.PanicsWithValue(t, "a handler", func() {
			bypassed(func(w http.ResponseWriter, r *http.Request) {
				claim := streamctx.ClaimOf(w, r)
				assert.NoError(t, claim.Take())
				context.AfterFunc(claim.Context, func() {
					time.Sleep(time.Second)
					left = true
					claim.Leave()
				})
				panic("a handler")
			})
		})
		assert.True(t, left)
	})
}
