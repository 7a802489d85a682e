package broadcast_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
)

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		require.NoError(t, new(broadcast.Hub).Run(t.Context()), "in memory there is nothing to follow")

		engine := &broadcasttest.Journal{}
		s := newServer(t, engine, nil)
		x := s.resume(broadcast.ID{}, "x")
		x.gets()
		err := s.Run(t.Context())
		require.Error(t, err, "a second Run beside the first")
		require.NotErrorIs(t, err, broadcast.ErrClosed)
		s.publish("x", "0")
		x.wakes("0")

		why := errors.New("enough")
		require.ErrorIs(t, s.stop(why), why)
		require.False(t, s.Stats().Following)
		engine.Append(t.Context(), broadcast.Message{Topic: "x", Data: []byte("1")})
		x.gets()
		s.start()
		x.wakes("1")

		require.ErrorIs(t, s.stop(nil), context.Canceled)
		s.start()
		s.publish("x", "2")
		synctest.Wait()
		require.NoError(t, s.Close())
		require.ErrorIs(t, <-s.ended, broadcast.ErrClosed)
		s.ended = nil
		x.wakes("2", "end")
		require.ErrorIs(t, s.Run(t.Context()), broadcast.ErrClosed, "after Close")
	})
}

// A Hub with a Journal that is used without Run warns once, and says what to do. It does not
// if Run begins a moment later, or the Hub has no Journal.
func TestHubThatNobodyRuns(t *testing.T) {
	const warning = "nobody runs it"
	uses := map[string]func(*server){
		"Publish":   func(s *server) { s.publish("x", "0") },
		"Subscribe": func(s *server) { s.resume(broadcast.ID{}, "x") },
		"Position":  func(s *server) { s.position() },
	}
	for name, use := range uses {
		synctest.Test(t, func(t *testing.T) {
			s := newStoppedServer(t, new(broadcasttest.Journal), nil)
			time.Sleep(time.Hour)
			require.Empty(t, s.log.with(warning), "%s: before the first use", name)
			use(s)
			require.Empty(t, s.log.with(warning), "%s: at once", name)
			for range 3 {
				time.Sleep(time.Minute)
				use(s)
			}
			require.Len(t, s.log.with(warning), 1, name)
			require.Contains(t, s.log.with(warning)[0], "go hub.Run(ctx)")

			beside := newStoppedServer(t, new(broadcasttest.Journal), nil)
			use(beside)
			time.Sleep(100 * time.Millisecond)
			beside.start()
			time.Sleep(time.Minute)
			use(beside)
			require.Empty(t, beside.log.with(warning), "%s: Run begins a moment later", name)

			// It is deaf again once Run has ended.
			require.ErrorIs(t, beside.stop(nil), context.Canceled)
			use(beside)
			time.Sleep(time.Minute)
			require.Len(t, beside.log.with(warning), 1, "%s: after Run", name)
			beside.start()
			time.Sleep(time.Minute)
			require.Len(t, beside.log.with(warning), 1, name)

			closed := newStoppedServer(t, new(broadcasttest.Journal), nil)
			use(closed)
			require.NoError(t, closed.Close())
			time.Sleep(time.Minute)
			require.Empty(t, closed.log.with(warning), "%s: closed", name)

			memory := &server{t: t, Hub: &broadcast.Hub{}}
			memory.Logger = slog.New(slog.NewTextHandler(&memory.log, nil))
			use(memory)
			time.Sleep(time.Minute)
			require.Empty(t, memory.log.with(warning), "%s: in memory", name)
		})
	}
}

// A Hub with open streams whose Run has ended warns, without another use.
func TestRunThatEndsBeforeItsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, new(broadcasttest.Journal), nil)
		s.resume(broadcast.ID{}, "x")
		time.Sleep(time.Minute)
		require.ErrorIs(t, s.stop(nil), context.Canceled)
		time.Sleep(time.Minute)
		require.Len(t, s.log.with("nobody runs it"), 1)
	})
}

// Run ends at once, even while it waits for an engine that is away.
func TestRunEndsWhileTheEngineIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, end := range []func(*server) error{
			func(s *server) error { return s.stop(broadcast.ErrClosed) },
			func(s *server) error { s.Close(); return s.stop(nil) },
		} {
			s := newServer(t, &broadcasttest.Journal{}, nil)
			s.node.Fail(errAway)
			s.resume(broadcast.MakeID(7, 7), "x").gets() // waits for an answer, too
			time.Sleep(time.Minute)
			began := time.Now()
			require.ErrorIs(t, end(s), broadcast.ErrClosed)
			require.Zero(t, time.Since(began))
		}
	})
}

func TestRunTriesAgainWithBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		count := &counted{}
		s := newServer(t, engine, func(j broadcast.Journal) broadcast.Journal { count.Journal = j; return count })
		require.True(t, s.Stats().Following)
		x := s.resume(broadcast.ID{}, "x")
		x.gets()

		// A short absence is a short pause.
		s.node.Restart()
		time.Sleep(time.Second)
		synctest.Wait()
		require.True(t, s.Stats().Following)
		require.EqualValues(t, 2, count.tails.Load())

		// During a long absence the pauses grow.
		count.tails.Store(0)
		s.node.Fail(errAway)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		require.False(t, s.Stats().Following)
		tries := count.tails.Load()
		require.Greater(t, tries, int64(600/11))
		require.Less(t, tries, int64(600))
		require.Len(t, s.log.with("the engine is away"), int(tries)+1, "one line for each failure, and for the end of the first Tail")
		engine.Append(t.Context(), broadcast.Message{Topic: "x", Data: []byte("meanwhile")})
		s.node.Fail(nil)
		time.Sleep(11 * time.Second)
		x.wakes("meanwhile")
		require.True(t, s.Stats().Following)
		require.Zero(t, s.Stats().Gaps)

		// A success ends the long pauses, even on a quiet log.
		for range 10 {
			time.Sleep(time.Hour)
			engine.Restart()
			time.Sleep(time.Second)
			synctest.Wait()
			require.True(t, s.Stats().Following)
		}
		x.gets()
		s.publish("x", "then")
		engine.Restart()
		time.Sleep(time.Second)
		synctest.Wait()
		require.True(t, s.Stats().Following)
		x.gets("then")
	})
}
