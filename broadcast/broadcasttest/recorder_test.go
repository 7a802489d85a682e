package broadcasttest_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
)

// A Recorder is a Broadcaster like its own.
func TestRecorderConforms(t *testing.T) {
	broadcasttest.TestBroadcaster(t, broadcasttest.Config{Keep: 8, Open: func(t *testing.T) broadcast.Broadcaster {
		hub := &broadcast.Hub{Keep: 8}
		t.Cleanup(func() { hub.Close() })
		return &broadcasttest.Recorder{Broadcaster: hub}
	}})
}

func TestRecorder(t *testing.T) {
	var r broadcasttest.Recorder
	var publishing sync.WaitGroup
	for range 8 {
		publishing.Go(func() {
			for range 50 {
				_, err := r.Publish(context.Background(), broadcast.Message{Topic: "a", From: "me", Data: []byte("x")})
				assert.NoError(t, err)
			}
		})
	}
	publishing.Wait()
	noted := r.Messages()
	require.Len(t, noted, 400)
	for i, m := range noted {
		require.EqualValues(t, i+1, m.ID.Seq(), "in the order of the IDs")
		require.Equal(t, "me", m.From)
	}

	_, err := r.Publish(context.Background(), broadcast.Message{})
	require.ErrorIs(t, err, broadcast.ErrNotPublished)
	away := errors.New("away")
	r.Fail(away)
	_, err = r.Publish(context.Background(), broadcast.Message{Topic: "a"})
	require.ErrorIs(t, err, away)
	require.ErrorIs(t, err, broadcast.ErrNotPublished)
	require.Len(t, r.Messages(), 400, "only what was published is noted")
	r.Fail(nil)
	_, err = r.Publish(context.Background(), broadcast.Message{Topic: "a"})
	require.NoError(t, err)
}
