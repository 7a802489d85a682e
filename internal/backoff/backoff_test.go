package backoff_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/backoff"
)

// Each time is between the least and a bound that doubles up to Most.
func TestNext(t *testing.T) {
	b := backoff.Backoff{First: time.Second, Most: 5 * time.Second}
	for _, bound := range []time.Duration{1, 2, 4, 5, 5, 5} {
		d := b.Next(time.Minute)
		assert.GreaterOrEqual(t, d, time.Minute)
		assert.LessOrEqual(t, d, time.Minute+bound*time.Second)
	}
	b.Reset()
	assert.LessOrEqual(t, b.Next(0), time.Second)
}

func TestNextNeverOverflows(t *testing.T) {
	var b backoff.Backoff
	for range 1000 {
		d := b.Next(0)
		require.GreaterOrEqual(t, d, time.Duration(0))
		require.LessOrEqual(t, d, 30*time.Second)
	}
}

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		require.NoError(t, backoff.Sleep(t.Context(), time.Minute))
		require.Equal(t, time.Minute, time.Since(began))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, backoff.Sleep(ctx, time.Minute), context.DeadlineExceeded)
	})
}
