package redisjournal_test

import (
	"context"
	"math"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/redisjournal"
)

// After an ID of another epoch a tail yields a gap; after one that the stream has not reached it
// waits.
func TestTailStart(t *testing.T) {
	s := start(t)
	j := s.journal()
	ids := add(t, j, "one")
	f := follow(t, j, broadcast.MakeID(ids[0].Epoch()^2, math.MaxUint64))
	f.gap()
	f.yields(ids, "one")
	for _, ahead := range []uint64{2, math.MaxUint64} {
		f = follow(t, j, broadcast.MakeID(ids[0].Epoch(), ahead))
		ended := make(chan error, 1)
		go func() {
			_, err, _ := f.next()
			ended <- err
		}()
		require.Eventually(t, func() bool { return s.waiting("node") }, patience, time.Millisecond)
		f.cancel()
		require.ErrorIs(t, <-ended, context.Canceled, "it waits until the stream has passed that ID")
	}
}

// Entries that are trimmed before a tail has read them are yielded as a gap, also if nothing
// follows.
func TestTailDuringATrim(t *testing.T) {
	t.Parallel()
	s := start(t)
	j := s.journal()
	texts := many("x", 400)
	ids := add(t, j, texts...)
	f := follow(t, j, broadcast.ID{})
	f.yields(ids, "x0")
	s.do("XTRIM", "fanfare", "MAXLEN", 10)
	f.yields(ids[1:], texts[1:128]...) // the entries of the first read
	require.Equal(t, ids[389], f.gap())
	f.yields(ids[390:], texts[390:]...)

	f = follow(t, j, ids[100])
	require.Equal(t, ids[389], f.gap())
	oldest, newest, err := j.Bounds(t.Context())
	require.NoError(t, err)
	require.Equal(t, [2]broadcast.ID{ids[390], ids[399]}, [2]broadcast.ID{oldest, newest})

	s.do("XTRIM", "fanfare", "MAXLEN", 0)
	f = follow(t, j, ids[395])
	require.Equal(t, ids[399], f.gap(), "the gap is yielded although nothing follows it")
	oldest, newest, err = j.Bounds(t.Context())
	require.NoError(t, err)
	require.Equal(t, broadcast.MakeID(ids[0].Epoch(), ids[399].Seq()+1), oldest)
	require.Equal(t, ids[399], newest)
	next := add(t, j, "next")
	require.Equal(t, oldest, next[0], "the sequence continues")
	f.yields(next, "next")

	_, err = s.admin.TxPipelined(t.Context(), addAndTrim(t))
	require.NoError(t, err)
	require.Equal(t, next[0].Seq()+1, f.gap().Seq(), "an entry that was added and trimmed")
}

// addAndTrim returns a transaction that adds an entry and trims it.
func addAndTrim(t *testing.T) func(redis.Pipeliner) error {
	return func(tx redis.Pipeliner) error {
		tx.XAdd(t.Context(), &redis.XAddArgs{Stream: "fanfare", ID: "0-*", Values: []any{"topic", "t"}})
		tx.XTrimMaxLen(t.Context(), "fanfare", 0)
		return nil
	}
}

// A tail ends at once with its ctx, and its connection is closed.
func TestTailReleasesItsConnection(t *testing.T) {
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
	require.Equal(t, 2, s.connections("other"), "one of the tail and one of the client")
	ended := make(chan error, 1)
	go func() {
		_, err, _ := f.next()
		ended <- err
	}()
	require.Eventually(t, func() bool { return s.waiting("other") }, patience, time.Millisecond)
	// The server does not answer any more, so that only ctx can end the tail.
	require.NoError(t, s.process.Process.Signal(syscall.SIGSTOP))
	f.cancel()
	select {
	case err := <-ended:
		require.ErrorIs(t, err, context.Canceled)
	case <-time.After(patience / 2):
		require.Fail(t, "the tail waits for the server")
	}
	require.NoError(t, s.process.Process.Signal(syscall.SIGCONT))
	require.Eventually(t, func() bool { return s.connections("other") == 1 }, patience, 5*time.Millisecond)

	require.Equal(t, 2, s.connections("node"))
	require.NoError(t, hub.Close())
	require.Eventually(t, func() bool { return s.connections("node") == 1 }, patience, 5*time.Millisecond)
}
