package redisjournal_test

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/redisjournal"
)

// gone returns a transaction of an entry that comes and goes.
func gone(t *testing.T) func(redis.Pipeliner) error {
	return func(tx redis.Pipeliner) error {
		tx.XAdd(t.Context(), &redis.XAddArgs{Stream: "fanfare", ID: "0-*", Values: []any{"topic", "t"}})
		tx.XTrimMaxLen(t.Context(), "fanfare", 0)
		return nil
	}
}

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

func TestAppendWithoutAnswer(t *testing.T) {
	t.Run("client", func(t *testing.T) {
		s := start(t)
		p := before(t, s)
		client := redis.NewClient(&redis.Options{Dialer: p.dial, MaxRetries: 3})
		t.Cleanup(func() { client.Close() })
		testAppendWithoutAnswer(t, s, p, client)
	})
	t.Run("cluster", func(t *testing.T) {
		s := startCluster(t)
		p := before(t, s)
		client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{s.address}, Dialer: p.dial, MaxRetries: 3})
		t.Cleanup(func() { client.Close() })
		testAppendWithoutAnswer(t, s, p, client)
	})
}

// A client tries three times more, unless it is told not to.
func testAppendWithoutAnswer(t *testing.T, s *server, p *proxy, client redis.UniversalClient) {
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
	require.Equal(t, "unanswered", string(m.Data), "nobody knew, and it has arrived")
	f.yields(last, "last")
}

func TestAppendLateAnswer(t *testing.T) {
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

func TestEngineAway(t *testing.T) {
	s := start(t)
	j := s.journal()
	ids := add(t, j, "one")
	f := follow(t, j, broadcast.ID{})
	f.yields(ids, "one")
	s.crash()
	f.fails()
	// The client may first find a connection broken that it had.
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

func TestScriptsFlushed(t *testing.T) {
	s := start(t)
	j := s.journal()
	ids := add(t, j, "one")
	s.do("SCRIPT", "FLUSH")
	ids = append(ids, add(t, j, "two")...)
	follow(t, j, broadcast.ID{}).yields(ids, "one", "two")
}

func TestNothingLeft(t *testing.T) {
	s := start(t)
	hub := run(t, s.journal())
	_, err := hub.Publish(t.Context(), broadcast.Message{Topic: "t"})
	require.NoError(t, err)
	j := &redisjournal.Journal{Client: s.client("other")}
	_, _, err = j.Bounds(t.Context())
	require.NoError(t, err)
	f := follow(t, j, broadcast.ID{})
	m, err := f.pull()
	require.NoError(t, err)
	require.Equal(t, "t", m.Topic)
	require.Equal(t, 2, s.connections("other"), "the Tail's and the client's")
	ended := make(chan error, 1)
	go func() {
		_, err, _ := f.next()
		ended <- err
	}()
	require.Eventually(t, func() bool { return s.waiting("other") }, patience, time.Millisecond)
	// At once: the server says nothing more.
	require.NoError(t, s.process.Process.Signal(syscall.SIGSTOP))
	f.cancel()
	select {
	case err := <-ended:
		require.ErrorIs(t, err, context.Canceled)
	case <-time.After(patience / 2):
		require.Fail(t, "the Tail waits for the server")
	}
	require.NoError(t, s.process.Process.Signal(syscall.SIGCONT))
	require.Eventually(t, func() bool { return s.connections("other") == 1 }, patience, 5*time.Millisecond)

	require.Equal(t, 2, s.connections("node"))
	require.NoError(t, hub.Close())
	require.Eventually(t, func() bool { return s.connections("node") == 1 }, patience, 5*time.Millisecond)
}

func TestImpossibleFields(t *testing.T) {
	ring := redis.NewRing(&redis.RingOptions{})
	t.Cleanup(func() { ring.Close() })
	client := redis.NewClient(&redis.Options{})
	t.Cleanup(func() { client.Close() })
	for _, test := range []struct {
		name    string
		journal *redisjournal.Journal
		reason  string
	}{
		{"no client", &redisjournal.Journal{}, "Journal.Client is nil"},
		{"a ring", &redisjournal.Journal{Client: ring}, "Journal.Client is a *redis.Ring"},
		{"negative", &redisjournal.Journal{Client: client, MaxEntries: -1}, "Journal.MaxEntries is -1"},
	} {
		_, err := test.journal.Append(t.Context(), broadcast.Message{Topic: "t"})
		assert.ErrorContains(t, err, test.reason, test.name)
		assert.ErrorIs(t, err, broadcast.ErrNotPublished, test.name)
		_, _, err = test.journal.Bounds(t.Context())
		assert.ErrorContains(t, err, test.reason, test.name)
		assert.ErrorContains(t, follow(t, test.journal, broadcast.ID{}).fails(), test.reason, test.name)
	}
}
