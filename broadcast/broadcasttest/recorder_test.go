package broadcasttest_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
)

// A Recorder keeps the rules of a Broadcaster.
func TestRecorderConforms(t *testing.T) {
	broadcasttest.TestBroadcaster(t, broadcasttest.Config{Keep: 8, Open: func(t *testing.T) broadcast.Broadcaster {
		hub := &broadcast.Hub{Keep: 8}
		t.Cleanup(func() { hub.Close() })
		return &broadcasttest.Recorder{Broadcaster: hub}
	}})
}

// A Recorder records what was published, in the order of the IDs, and nothing that failed.
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
	recorded := r.Messages()
	require.Len(t, recorded, 400)
	for i, m := range recorded {
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
	require.Len(t, r.Messages(), 400, "only what was published is recorded")
	r.Fail(nil)
	_, err = r.Publish(context.Background(), broadcast.Message{Topic: "a"})
	require.NoError(t, err)
}

// slow takes a second to publish.
type slow struct{ broadcast.Hub }

func (s *slow) Publish(ctx context.Context, m broadcast.Message) (broadcast.ID, error) {
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
	}
	return s.Hub.Publish(ctx, m)
}

// A Recorder does not keep its lock while its Broadcaster publishes.
func TestRecorderWithASlowBroadcaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &broadcasttest.Recorder{Broadcaster: new(slow)}
		go r.Publish(context.Background(), broadcast.Message{Topic: "a"})
		synctest.Wait()
		require.Empty(t, r.Messages())
		time.Sleep(2 * time.Second)
		require.Len(t, r.Messages(), 1)
	})
}
