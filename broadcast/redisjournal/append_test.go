package redisjournal_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/redisjournal"
)

// Append returns ErrNotPublished and the reason if the engine refuses; Bounds and Tail go on.
func TestAppendRefused(t *testing.T) {
	s := start(t)
	j := s.journal()
	ids := add(t, j, "one")
	f := follow(t, j, broadcast.ID{})
	f.yields(ids, "one")
	s.do("CONFIG", "SET", "maxmemory", 1)
	_, err := j.Append(t.Context(), broadcast.Message{Topic: "t"}, broadcast.Message{Topic: "t"})
	require.ErrorIs(t, err, broadcast.ErrNotPublished)
	require.ErrorContains(t, err, "OOM")
	_, newest, err := j.Bounds(t.Context())
	require.NoError(t, err, "Bounds needs no memory")
	require.Equal(t, ids[0], newest)
	follow(t, j, broadcast.ID{}).yields(ids, "one")

	s.do("CONFIG", "SET", "maxmemory", 0)
	ids = add(t, j, "two")
	require.Equal(t, newest.Seq()+1, ids[0].Seq())
	f.yields(ids, "two")
}

// A script whose answer is lost is sent once, and may have added its messages.
func TestAppendWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	t.Run("client", func(t *testing.T) {
		s := start(t)
		p := startProxy(t, s)
		client := redis.NewClient(&redis.Options{Dialer: p.dial, MaxRetries: 3})
		t.Cleanup(func() { client.Close() })
		testAppendWithoutAnAnswer(t, s, p, client)
	})
	t.Run("cluster", func(t *testing.T) {
		s := startCluster(t)
		p := startProxy(t, s)
		client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{s.address}, Dialer: p.dial, MaxRetries: 3})
		t.Cleanup(func() { client.Close() })
		testAppendWithoutAnAnswer(t, s, p, client)
	})
}

// testAppendWithoutAnAnswer needs a client that would retry three times by itself.
func testAppendWithoutAnAnswer(t *testing.T, s *server, p *proxy, client redis.UniversalClient) {
	ids := add(t, s.journal(), "one")
	j := &redisjournal.Journal{Client: client}
	ids = append(ids, add(t, j, "two")...)
	p.lose("unanswered")
	_, err := j.Append(t.Context(), broadcast.Message{Topic: "t", Data: []byte("unanswered")})
	require.Error(t, err)
	require.NotErrorIs(t, err, broadcast.ErrNotPublished)
	require.Equal(t, 1, p.losses(), "how often it was sent")

	last := add(t, s.journal(), "last")
	f := follow(t, s.journal(), broadcast.ID{})
	f.yields(ids, "one", "two")
	m, err := f.pull()
	require.NoError(t, err)
	require.Equal(t, "unanswered", string(m.Data), "it was added all the same")
	f.yields(last, "last")
}

// A call returns when its ctx ends, also while the engine does not answer; messages that
// were sent may have been added.
func TestAppendWithALateAnswer(t *testing.T) {
	s := start(t)
	j := s.journal()
	ids := add(t, j, "one")
	for _, test := range []struct {
		name string
		end  func() (context.Context, context.CancelFunc)
		want error
	}{
		{"deadline", func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(context.Background(), 100*time.Millisecond)
		}, context.DeadlineExceeded},
		{"cancelled", func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(100*time.Millisecond, cancel)
			return ctx, cancel
		}, context.Canceled},
	} {
		s.do("CLIENT", "PAUSE", 60_000, "WRITE")
		ctx, cancel := test.end()
		defer cancel()
		_, err := j.Append(ctx, broadcast.Message{Topic: "t", Data: []byte(test.name)})
		require.ErrorIs(t, err, test.want, test.name)
		require.NotErrorIs(t, err, broadcast.ErrNotPublished, test.name)
		_, _, err = j.Bounds(ctx)
		require.ErrorIs(t, err, test.want, test.name)
		s.do("CLIENT", "UNPAUSE")
	}
	last := add(t, j, "last")
	f := follow(t, j, ids[0])
	for m, err := f.pull(); m.ID != last[0]; m, err = f.pull() {
		require.NoError(t, err)
		assert.Contains(t, []string{"deadline", "cancelled"}, string(m.Data))
	}
}

// Without a connection every call fails, and Append adds nothing.
func TestAppendWithoutAConnection(t *testing.T) {
	t.Parallel()
	s := start(t)
	j := s.journal()
	ids := add(t, j, "one")
	f := follow(t, j, broadcast.ID{})
	f.yields(ids, "one")
	s.crash()
	f.fails()
	// The first attempts may use a connection that is broken, with an uncertain outcome.
	require.Eventually(t, func() bool {
		_, err := j.Append(t.Context(), broadcast.Message{Topic: "t"})
		require.Error(t, err)
		return errors.Is(err, broadcast.ErrNotPublished)
	}, patience, time.Millisecond)
	_, _, err := j.Bounds(t.Context())
	require.Error(t, err)
	follow(t, j, broadcast.ID{}).fails()

	client := s.client("closed")
	require.NoError(t, client.Close())
	_, err = (&redisjournal.Journal{Client: client}).Append(t.Context(), broadcast.Message{Topic: "t"})
	require.ErrorIs(t, err, broadcast.ErrNotPublished)
}

// Scripts that Redis has forgotten are sent again.
func TestAppendAfterAScriptFlush(t *testing.T) {
	s := start(t)
	j := s.journal()
	ids := add(t, j, "one")
	s.do("SCRIPT", "FLUSH")
	ids = append(ids, add(t, j, "two")...)
	follow(t, j, broadcast.ID{}).yields(ids, "one", "two")
}
