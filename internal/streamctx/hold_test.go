package streamctx_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/streamctx"
)

// hold returns a hold, the context below it, and how often it has called release.
func hold(ctx context.Context) (*streamctx.Hold, context.Context, *int) {
	released := new(int)
	h, ctx := streamctx.NewHold(ctx, func(*streamctx.Hold) { *released++ })
	return h, ctx, released
}

func claim(ctx context.Context) *streamctx.Claim {
	return streamctx.ClaimOf(httptest.NewRecorder(), get().WithContext(ctx))
}

func ignore(streamctx.End) {}

// A hold is released once, by the last of the handlers, the claims and the streams.
func TestHoldIsReleasedByTheLastUser(t *testing.T) {
	for _, test := range []struct {
		name  string
		order func(h *streamctx.Hold, leave, detach func()) []func()
	}{
		{"the handlers", func(h *streamctx.Hold, leave, detach func()) []func() { return []func(){leave, detach, h.Release} }},
		{"a claim", func(h *streamctx.Hold, leave, detach func()) []func() { return []func(){h.Release, detach, leave} }},
		{"a stream", func(h *streamctx.Hold, leave, detach func()) []func() { return []func(){h.Release, leave, detach} }},
	} {
		t.Run(test.name, func(t *testing.T) {
			h, ctx, released := hold(t.Context())
			c := claim(ctx)
			require.NoError(t, c.Take())
			detach := streamctx.Attach(c.Context, ignore).Detach
			for _, step := range test.order(h, c.Leave, detach) {
				require.Zero(t, *released)
				step()
			}
			require.Equal(t, 1, *released)
			c.Leave()
			detach()
			require.Equal(t, 1, *released, "more calls have no effect")
		})
	}
}

// All middleware of a request wait for the same streams.
func TestHoldsOfSeveralMiddleware(t *testing.T) {
	outer, ctx, outerReleased := hold(t.Context())
	inner, ctx, innerReleased := hold(ctx)
	c := claim(ctx)
	inner.Release()
	outer.Release()
	require.Zero(t, *innerReleased+*outerReleased)
	c.Leave()
	require.Equal(t, 1, *innerReleased)
	require.Equal(t, 1, *outerReleased)
}

// A request whose hold has been released cannot become a stream any more: the
// middleware has given its place to another, and release must not be called again.
func TestTakeAfterRelease(t *testing.T) {
	outer, ctx, outerReleased := hold(t.Context())
	inner, ctx, innerReleased := hold(ctx)
	inner.Release()
	c := claim(ctx)
	require.ErrorContains(t, c.Take(), "has ended")
	c.Leave()
	require.Equal(t, 1, *innerReleased)
	outer.Release()
	require.Equal(t, 1, *outerReleased)

	outer, ctx, outerReleased = hold(t.Context())
	inner, ctx, innerReleased = hold(ctx)
	outer.Release() // no middleware does that before the inner one has
	c = claim(ctx)
	require.ErrorContains(t, c.Take(), "has ended")
	inner.Release()
	require.Zero(t, *innerReleased, "it waits for the claim")
	c.Leave()
	require.Equal(t, 1, *innerReleased)
	require.Equal(t, 1, *outerReleased)
}

// The same holds for a claim below a Bypass.
func TestTakeAfterReleaseBelowBypass(t *testing.T) {
	bypassed(func(w http.ResponseWriter, r *http.Request) {
		h, ctx, released := hold(r.Context())
		h.Release()
		c := streamctx.ClaimOf(w, r.WithContext(ctx))
		assert.ErrorContains(t, c.Take(), "has ended")
		c.Leave()
		assert.Equal(t, 1, *released)
	})
}

// End reaches each stream that is attached, once, and with what the middleware wants.
func TestEndReachesTheStreams(t *testing.T) {
	outer, ctx, _ := hold(t.Context())
	inner, ctx, _ := hold(ctx)
	c := claim(ctx)
	defer c.Leave()
	var first, second []streamctx.End
	detach := streamctx.Attach(c.Context, func(how streamctx.End) { first = append(first, how) }).Detach
	streamctx.Attach(c.Context, func(how streamctx.End) { second = append(second, how) })
	inner.End(streamctx.End{Code: 4001, Reason: "no more"})
	detach()
	outer.End(streamctx.End{Cut: true})
	require.Equal(t, []streamctx.End{{Code: 4001, Reason: "no more"}}, first, "it has detached before the second End")
	require.Equal(t, []streamctx.End{{Code: 4001, Reason: "no more"}, {Cut: true}}, second)
}

// A stream that attaches after End is asked to end at once.
func TestAttachAfterEnd(t *testing.T) {
	outer, ctx, _ := hold(t.Context())
	inner, ctx, _ := hold(ctx)
	outer.End(streamctx.End{})
	inner.End(streamctx.End{Code: 4001})
	inner.End(streamctx.End{Cut: true})
	c := claim(ctx)
	defer c.Leave()
	var got []streamctx.End
	streamctx.Attach(c.Context, func(how streamctx.End) { got = append(got, how) })
	require.ElementsMatch(t, []streamctx.End{{}, {Code: 4001}, {Cut: true}}, got)
}

// end and release run without a lock: they may use the hold.
func TestCallbacksMayUseTheHold(t *testing.T) {
	var h *streamctx.Hold
	released := 0
	h, ctx := streamctx.NewHold(t.Context(), func(same *streamctx.Hold) {
		released++
		assert.Same(t, h, same)
		same.End(streamctx.End{})
	})
	c := claim(ctx)
	var detach func()
	ends := 0
	detach = streamctx.Attach(c.Context, func(how streamctx.End) {
		ends++
		if !how.Cut {
			h.End(streamctx.End{Cut: true})
			detach()
			c.Leave()
		}
	}).Detach
	h.Release()
	h.End(streamctx.End{})
	require.Equal(t, 2, ends)
	require.Equal(t, 1, released)
}

// Streams that attach while their middleware ends them are all asked to end.
func TestAttachWhileEnding(t *testing.T) {
	for range 200 {
		h, ctx, released := hold(t.Context())
		var asked atomic.Int64
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				c := claim(ctx)
				streamctx.Attach(c.Context, func(streamctx.End) { asked.Add(1) })
				c.Leave()
			})
		}
		all.Go(func() { h.End(streamctx.End{}) })
		all.Wait()
		require.Equal(t, int64(4), asked.Load())
		require.Zero(t, *released)
	}
}

// Without middleware there is nothing to attach to.
func TestAttachWithoutHold(t *testing.T) {
	require.False(t, streamctx.Held(t.Context()))
	streamctx.Attach(t.Context(), func(streamctx.End) { t.Error("there is no middleware to end it") }).Detach()
	_, ctx, _ := hold(t.Context())
	require.True(t, streamctx.Held(ctx))
}
