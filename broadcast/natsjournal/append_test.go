package natsjournal_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/natsjournal"
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

// What the engine refuses is not published, and the others of the call are: Append says which
// is which, and the engine's reason.
func TestAppendRefused(t *testing.T) {
	t.Parallel()
	tooLarge := strings.Repeat("x", 1<<20)
	t.Run("some, because the stream is full", func(t *testing.T) {
		j := startEngine(t).journal()
		add(t, j, numbers(0, 3)...)
		js := admin(t, j.Conn)
		config := stream(t, js).CachedInfo().Config
		config.Discard, config.MaxMsgs = jetstream.DiscardNew, 5
		_, err := js.UpdateStream(t.Context(), config)
		require.NoError(t, err)
		ids, err := j.Append(within(t), message("3"), message("4"), message("5"))
		requireRefused(t, ids, err, 2)
		require.ErrorContains(t, err, "maximum messages exceeded")
		_, err = j.Append(within(t), message("6"))
		require.ErrorContains(t, err, "maximum messages exceeded")
		require.ErrorIs(t, err, broadcast.ErrNotPublished)
	})
	t.Run("some, because they are larger than the server accepts", func(t *testing.T) {
		j := startEngine(t).journal()
		ids, err := j.Append(within(t), message(tooLarge), message("a"), message(tooLarge), message("b"))
		requireRefused(t, ids, err, 0, 2)
		require.ErrorContains(t, err, "the server accepts at most 1048576: raise its max_payload")
		follow(t, j, broadcast.ID{}).yields([]broadcast.ID{ids[1], ids[3]}, "a", "b")
	})
	t.Run("some, because they are larger than the stream accepts", func(t *testing.T) {
		j := startEngine(t).journal()
		add(t, j, "first")
		js := admin(t, j.Conn)
		config := stream(t, js).CachedInfo().Config
		config.MaxMsgSize = 1000
		_, err := js.UpdateStream(t.Context(), config)
		require.NoError(t, err)
		ids, err := j.Append(within(t), message("a"), message(tooLarge[:2000]), message("b"))
		requireRefused(t, ids, err, 1)
		require.ErrorContains(t, err, "message size exceeds maximum allowed")
		require.Equal(t, uint64(3), ids[2].Seq())
	})
	t.Run("all", func(t *testing.T) {
		j := startEngine(t).journal()
		_, err := j.Append(within(t), message(tooLarge))
		require.ErrorIs(t, err, broadcast.ErrNotPublished)
		require.NotErrorAs(t, err, new(broadcast.AppendErrors), "it is about one message")
		ids, err := j.Append(within(t), message(tooLarge), message(tooLarge))
		requireRefused(t, ids, err, 0, 1)
		_, newest, err := j.Bounds(within(t))
		require.NoError(t, err)
		require.Zero(t, newest.Seq())
	})
	t.Run("none: the largest that fits", func(t *testing.T) {
		j := startEngine(t).journal()
		ids, err := j.Append(within(t), message(tooLarge[:1<<20-200]))
		require.NoError(t, err)
		m, err := follow(t, j, broadcast.ID{}).next()
		require.NoError(t, err)
		require.Equal(t, ids[0], m.ID)
		require.Len(t, m.Data, 1<<20-200)
	})
}

// Where there is nothing that could answer, Append says so at once.
func TestAppendWithoutAStream(t *testing.T) {
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
		require.ErrorIs(t, err, natsjournal.ErrUnusable)
		require.ErrorContains(t, err, "make it with natsjournal.Connect")
		_, err = follow(t, j, broadcast.ID{}).next()
		require.ErrorIs(t, err, nats.ErrConnectionClosed)
	})
}

// requireRefused checks that an error is about the messages at these indexes, and that the
// others have IDs.
func requireRefused(t *testing.T, ids []broadcast.ID, err error, indexes ...int) {
	t.Helper()
	var errs broadcast.AppendErrors
	require.ErrorAs(t, err, &errs)
	require.Len(t, ids, len(errs))
	for i := range errs {
		if slices.Contains(indexes, i) {
			require.ErrorIs(t, errs[i], broadcast.ErrNotPublished)
			require.True(t, ids[i].IsZero())
			continue
		}
		require.NoError(t, errs[i])
		require.False(t, ids[i].IsZero())
	}
}
