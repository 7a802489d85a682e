package ws_test

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/ws"
)

var phases = []ws.Phase{ws.Open, ws.Ending, ws.Closing, ws.Refusing, ws.Dead}

// A phase is followed by those that are listed, and stays where another is asked for.
func TestPhases(t *testing.T) {
	follows := map[ws.Phase][]ws.Phase{
		ws.Open:     {ws.Ending, ws.Closing, ws.Refusing, ws.Dead},
		ws.Ending:   {ws.Refusing, ws.Dead},
		ws.Closing:  {ws.Dead},
		ws.Refusing: {ws.Dead},
		ws.Dead:     {},
	}
	for _, from := range phases {
		for _, next := range phases {
			w := ws.NewPhaseWord(from)
			before, changed := w.To(next)
			assert.Equal(t, from, before)
			if slices.Contains(follows[from], next) {
				assert.True(t, changed, "%v to %v", from, next)
				assert.Equal(t, next, w.Load())
			} else {
				assert.False(t, changed, "%v to %v", from, next)
				assert.Equal(t, from, w.Load())
			}
		}
	}
}

// Of changes at once that exclude each other, one succeeds.
func TestOneOfSeveralPhaseChangesSucceeds(t *testing.T) {
	for range 1000 {
		w := ws.NewPhaseWord(ws.Open)
		var succeeded [5]atomic.Int32
		var all sync.WaitGroup
		for _, next := range []ws.Phase{ws.Closing, ws.Refusing, ws.Closing, ws.Refusing, ws.Dead, ws.Dead} {
			all.Go(func() {
				if _, changed := w.To(next); changed {
					succeeded[next].Add(1)
				}
			})
		}
		all.Wait()
		require.LessOrEqual(t, succeeded[ws.Closing].Load()+succeeded[ws.Refusing].Load(), int32(1))
		require.EqualValues(t, 1, succeeded[ws.Dead].Load())
		require.Equal(t, ws.Dead, w.Load())
	}
}
