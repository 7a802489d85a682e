package redisjournal_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// Servers append and follow while the engine crashes again and again, with a
// snapshot that is more or less old.
func TestCrashes(t *testing.T) {
	s := start(t, "--dbfilename", "dump.rdb")
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()

	var given sync.Map // the text of each ID
	note := func(id broadcast.ID, text string) {
		if before, twice := given.LoadOrStore(id, text); twice {
			assert.Equal(t, before, text, "%v was given twice", id)
		}
	}
	var appended atomic.Int64
	for a := range 3 {
		j := s.journal()
		all.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				text := fmt.Sprint(a, " ", i)
				ids, err := j.Append(ctx, broadcast.Message{Topic: "t", Data: []byte(text)})
				if err == nil {
					note(ids[0], text)
					appended.Add(1)
				}
			}
		})
	}
	var places [2]atomic.Pointer[broadcast.ID]
	for i := range places {
		j := s.journal()
		all.Go(func() {
			var last broadcast.ID
			for ctx.Err() == nil {
				for m, err := range j.Tail(ctx, last) {
					switch {
					case err == nil:
						if !last.IsZero() {
							assert.Equal(t, broadcast.MakeID(last.Epoch(), last.Seq()+1), m.ID)
						}
						if m.Topic != "" {
							note(m.ID, string(m.Data))
						}
					case !errors.Is(err, broadcast.ErrGap):
						continue
					}
					last = m.ID
					places[i].Store(&m.ID)
				}
			}
		})
	}
	more := func(n int64) {
		until := appended.Load() + n
		require.Eventually(t, func() bool { return appended.Load() >= until }, patience, time.Millisecond)
	}
	for range 6 {
		more(50)
		s.do("SAVE")
		more(50)
		s.crash()
		s.run()
	}
	more(50)
	_, newest, err := s.journal().Bounds(t.Context())
	require.NoError(t, err)
	for i := range places {
		require.Eventually(t, func() bool {
			place := places[i].Load()
			return place.Epoch() == newest.Epoch() && place.Seq() >= newest.Seq()
		}, patience, time.Millisecond)
	}
}
