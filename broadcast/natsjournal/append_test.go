package natsjournal_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// A message is yielded under the ID that Append returned, or Append said that it was not
// published, also while the engine restarts.
func TestAppendDuringARestart(t *testing.T) {
	e := startEngine(t)
	j := e.journal()
	f := follow(t, j, broadcast.ID{})
	const n = 4000
	type published struct {
		ids []broadcast.ID
		err error
	}
	appended := make(chan published, n)
	first := add(t, j, "first")
	f.yields(first, "first")
	go func() {
		for i := range n {
			ids, err := j.Append(context.Background(), message(fmt.Sprint(i)))
			appended <- published{ids, err}
			if i == n/8 {
				go e.restart()
			}
		}
	}()
	for i := range n {
		p := <-appended
		if p.err != nil && assert.ErrorIs(t, p.err, broadcast.ErrNotPublished) {
			continue
		}
		require.NoError(t, p.err)
		f.yields(p.ids, fmt.Sprint(i))
	}
	f.yields(add(t, j, "last"), "last")
}

// Without a connection every call ends with its ctx, and Append adds nothing.
func TestAppendWithoutAConnection(t *testing.T) {
	e := startEngine(t)
	j := e.journal()
	add(t, j, "before")
	e.stop()
	require.Eventually(t, func() bool { return !j.Conn.IsConnected() }, soon, moment)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := j.Append(ctx, message("lost"))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, err, broadcast.ErrNotPublished)
	_, _, err = j.Bounds(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Less(t, time.Since(began), 2*time.Second)
	e.start()
	f := follow(t, j, broadcast.ID{})
	f.yields(nil, "before")
	f.yields(add(t, j, "after"), "after")
}

// A message that was delivered and never answered may have been added.
func TestAppendWithoutAnAnswer(t *testing.T) {
	e := startEngine(t)
	j := e.journal()
	add(t, j, "before")
	js := admin(t, j.Conn)
	s := stream(t, js)
	subject := s.CachedInfo().Config.Subjects[0]
	require.NoError(t, js.DeleteStream(t.Context(), "fanfare"))
	silent := e.connect() // receives messages in place of the stream
	_, err := silent.SubscribeSync(subject)
	require.NoError(t, err)
	require.NoError(t, silent.Flush())
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = j.Append(ctx, message("unknown"))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, broadcast.ErrNotPublished)
}

// Messages whose acknowledgement was lost with the connection are sent again and added
// once.
func TestAppendSendsAgainAfterALostAnswer(t *testing.T) {
	j := startEngine(t).journal()
	add(t, j, "before")
	js := admin(t, j.Conn)
	config := stream(t, js).CachedInfo().Config
	config.NoAck = true
	_, err := js.UpdateStream(t.Context(), config)
	require.NoError(t, err)
	type published struct {
		ids []broadcast.ID
		err error
	}
	appended := make(chan published, 1)
	go func() {
		ids, err := j.Append(context.Background(), message("a"), message("b"))
		appended <- published{ids, err}
	}()
	require.Eventually(t, func() bool { return stream(t, js).CachedInfo().State.LastSeq == 3 }, soon, moment)
	config.NoAck = false
	_, err = js.UpdateStream(t.Context(), config)
	require.NoError(t, err)
	require.NoError(t, j.Conn.ForceReconnect())
	p := <-appended
	require.NoError(t, p.err)
	last := add(t, j, "last")
	require.Equal(t, uint64(4), last[0].Seq())
	f := follow(t, j, broadcast.ID{})
	f.yields(nil, "before")
	f.yields(append(p.ids, last...), "a", "b", "last")
}

// Append returns ErrNotPublished if the engine refuses all messages, and the engine's
// reason.
func TestAppendRefused(t *testing.T) {
	t.Run("full", func(t *testing.T) {
		j := startEngine(t).journal()
		add(t, j, numbers(0, 3)...)
		js := admin(t, j.Conn)
		config := stream(t, js).CachedInfo().Config
		config.Discard, config.MaxMsgs = jetstream.DiscardNew, 5
		_, err := js.UpdateStream(t.Context(), config)
		require.NoError(t, err)
		_, err = j.Append(within(t), message("3"), message("4"), message("5"))
		require.ErrorContains(t, err, "maximum messages exceeded")
		require.NotErrorIs(t, err, broadcast.ErrNotPublished, "two of them were added")
		_, err = j.Append(within(t), message("6"))
		require.ErrorContains(t, err, "maximum messages exceeded")
		require.ErrorIs(t, err, broadcast.ErrNotPublished)
	})
	t.Run("too large", func(t *testing.T) {
		j := startEngine(t).journal()
		_, err := j.Append(within(t), message("small"), message(strings.Repeat("x", 1<<20)))
		require.ErrorIs(t, err, broadcast.ErrNotPublished)
		require.ErrorContains(t, err, "the server accepts at most 1048576: raise its max_payload")
		_, newest, err := j.Bounds(within(t))
		require.NoError(t, err)
		require.Zero(t, newest.Seq(), "the small message was not added either")
		ids, err := j.Append(within(t), message(strings.Repeat("x", 1<<20-1000)))
		require.NoError(t, err)
		m, err := follow(t, j, broadcast.ID{}).next()
		require.NoError(t, err)
		require.Equal(t, ids[0], m.ID)
		require.Len(t, m.Data, 1<<20-1000)
	})
	t.Run("no JetStream", func(t *testing.T) {
		e := startEngine(t, func(o *server.Options) { o.JetStream = false })
		began := time.Now()
		_, err := e.journal().Append(context.Background(), message("x"))
		require.ErrorIs(t, err, broadcast.ErrNotPublished)
		require.Less(t, time.Since(began), 2*time.Second)
	})
	t.Run("closed", func(t *testing.T) {
		j := startEngine(t).journal()
		add(t, j, "x")
		j.Conn.Close()
		_, err := j.Append(context.Background(), message("x"))
		require.ErrorIs(t, err, broadcast.ErrNotPublished)
		require.ErrorIs(t, err, nats.ErrConnectionClosed)
		_, err = follow(t, j, broadcast.ID{}).next()
		require.ErrorIs(t, err, nats.ErrConnectionClosed)
	})
}
