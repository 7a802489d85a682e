package streamctx_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/streamctx"
)

// A probe answers in place of the stream, with the stream's writer, and may then begin a
// stream itself. It gets what the handler lacks.
func TestProbe(t *testing.T) {
	w := httptest.NewRecorder()
	lacks := errors.New("no Broadcaster")
	require.False(t, streamctx.Probed(w, get(), lacks))
	probes := 0
	r := get()
	r = r.WithContext(streamctx.WithProbe(r.Context(), func(got http.ResponseWriter, r *http.Request, gotLacks error) {
		probes++
		assert.Same(t, w, got)
		assert.Equal(t, lacks, gotLacks)
		assert.False(t, streamctx.Probed(got, r, nil))
	}))
	require.True(t, streamctx.Probed(w, r, lacks))
	require.Equal(t, 1, probes)
}

// A request whose origin has been checked says so to the handlers below only.
func TestOriginPassed(t *testing.T) {
	ctx := t.Context()
	require.True(t, streamctx.OriginPassed(streamctx.WithOriginPassed(ctx)))
	require.False(t, streamctx.OriginPassed(ctx))
}

// A request that a proxy sends on has its probe, and nothing else of the request that
// the proxy answers.
func TestApart(t *testing.T) {
	bypassed(func(w http.ResponseWriter, r *http.Request) {
		h, ctx, released := hold(streamctx.WithOriginPassed(streamctx.WithProbe(r.Context(), func(http.ResponseWriter, *http.Request, error) {})))
		h.End(streamctx.End{})
		apart := streamctx.Apart(ctx)

		assert.False(t, streamctx.Held(apart))
		assert.False(t, streamctx.OriginPassed(apart))
		assert.True(t, streamctx.Probed(w, r.WithContext(apart), nil))
		streamctx.Attach(apart, func(streamctx.End) { t.Error("it belongs to another connection") })
		inner := httptest.NewRecorder()
		c := streamctx.ClaimOf(inner, r.WithContext(apart))
		defer c.Leave()
		assert.False(t, c.Bypass())
		assert.Same(t, inner, c.Writer)
		assert.NoError(t, c.Take())
		h.Release()
		assert.Equal(t, 1, *released, "it does not wait for the other request")

		// The server that the proxy sends it to may have a Bypass of its own.
		streamctx.Bypass(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c := streamctx.ClaimOf(w, r)
			defer c.Leave()
			assert.Same(t, inner, c.Writer)
		})).ServeHTTP(inner, r.WithContext(apart))
	})
}
