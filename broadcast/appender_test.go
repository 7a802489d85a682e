package broadcast_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
)

func TestPublishWhileTheEngineIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		s := newServer(t, engine, nil)
		x := s.resume(broadcast.ID{}, "x")
		m := broadcast.Message{Topic: "x", Data: []byte("lost")}

		s.node.Fail(errAway)
		_, err := s.Publish(t.Context(), m)
		require.ErrorIs(t, err, errAway)
		require.NotErrorIs(t, err, broadcast.ErrNotPublished, "it may have arrived")
		s.node.Fail(fmt.Errorf("%w: %w", broadcast.ErrNotPublished, errAway))
		_, err = s.Publish(t.Context(), m)
		require.ErrorIs(t, err, errAway)
		require.ErrorIs(t, err, broadcast.ErrNotPublished, "the journal knows")
		_, err = s.Publish(t.Context(), broadcast.Message{Topic: "x\n"})
		require.ErrorIs(t, err, broadcast.ErrNotPublished)
		require.NotErrorIs(t, err, errAway, "the engine need not be asked")

		s.node.Fail(nil)
		s.publish("x", "at once, before the tail is back")
		time.Sleep(time.Minute)
		x.gets("at once, before the tail is back")

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = s.Publish(ctx, m)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, broadcast.ErrNotPublished)
		x.gets()
	})
}

// slowJournal records the size of each group that is appended, which takes a while.
type slowJournal struct {
	broadcast.Journal
	takes  time.Duration
	refuse func(broadcast.Message) bool

	mu     sync.Mutex
	groups []int
}

func (j *slowJournal) Append(ctx context.Context, ms ...broadcast.Message) ([]broadcast.ID, error) {
	j.mu.Lock()
	j.groups = append(j.groups, len(ms))
	j.mu.Unlock()
	select {
	case <-time.After(j.takes):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if j.refuse != nil && slices.ContainsFunc(ms, j.refuse) {
		return nil, fmt.Errorf("%w: too large for it", broadcast.ErrNotPublished)
	}
	return j.Journal.Append(ctx, ms...)
}

func TestAppendsAreGrouped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowJournal{takes: 10 * time.Millisecond}
		s := newServer(t, &broadcasttest.Journal{}, func(j broadcast.Journal) broadcast.Journal { slow.Journal = j; return slow })
		r := s.resume(s.position(), "x")
		r.gets()
		began := time.Now()
		const publishers, each = 700, 5
		var all sync.WaitGroup
		ids := make([][]broadcast.ID, publishers)
		for p := range publishers {
			all.Go(func() {
				for i := range each {
					id, err := s.Publish(t.Context(), broadcast.Message{Topic: "y", Data: fmt.Append(nil, p, i)})
					require.NoError(t, err)
					ids[p] = append(ids[p], id)
				}
			})
		}
		all.Wait()
		require.Less(t, time.Since(began), 20*10*time.Millisecond, "in groups")
		require.Greater(t, slices.Max(slow.groups), 300)
		require.LessOrEqual(t, slices.Max(slow.groups), 512)
		seen := make(map[broadcast.ID]bool)
		for _, mine := range ids {
			for i, id := range mine {
				require.False(t, seen[id])
				seen[id] = true
				require.True(t, i == 0 || id.Seq() > mine[i-1].Seq(), "in the order of one goroutine")
			}
		}
		synctest.Wait()
	})
}

// A message that the engine refuses does not fail the others of its group.
func TestRefusedMessageDoesNotFailItsGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowJournal{takes: 10 * time.Millisecond, refuse: func(m broadcast.Message) bool { return string(m.Data) == "bad" }}
		s := newServer(t, &broadcasttest.Journal{}, func(j broadcast.Journal) broadcast.Journal { slow.Journal = j; return slow })
		var all sync.WaitGroup
		publish := func(text string, want error) {
			all.Go(func() {
				_, err := s.Publish(t.Context(), broadcast.Message{Topic: "x", Data: []byte(text)})
				require.ErrorIs(t, err, want)
			})
		}
		publish("first", nil)
		synctest.Wait()
		for i := range 5 {
			publish(fmt.Sprint(i), nil)
			publish("bad", broadcast.ErrNotPublished)
		}
		all.Wait()
		synctest.Wait()
		require.EqualValues(t, 6, s.Stats().Position.Seq())
	})
}

func TestAppendEndsWithItsContexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowJournal{takes: time.Hour}
		s := newServer(t, &broadcasttest.Journal{}, func(j broadcast.Journal) broadcast.Journal { slow.Journal = j; return slow })
		publish := func(after time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), after)
			defer cancel()
			began := time.Now()
			_, err := s.Publish(ctx, broadcast.Message{Topic: "x", Data: []byte("x")})
			require.Equal(t, after, time.Since(began))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			return err
		}
		var all sync.WaitGroup
		for range 2 { // as many as are in flight at once
			all.Go(func() { require.NotErrorIs(t, publish(time.Minute), broadcast.ErrNotPublished, "it is in flight") })
			synctest.Wait()
		}
		all.Go(func() { require.ErrorIs(t, publish(time.Second), broadcast.ErrNotPublished, "it never was in flight") })
		all.Go(func() { require.NotErrorIs(t, publish(2*time.Minute), broadcast.ErrNotPublished) })
		all.Wait()
		synctest.Wait()
		require.Equal(t, []int{1, 1, 1}, slow.groups, "an Append is cancelled when all contexts of its group have ended")
	})
}

func TestAppendThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowJournal{refuse: func(broadcast.Message) bool { panic("in an engine") }}
		s := newServer(t, &broadcasttest.Journal{}, func(j broadcast.Journal) broadcast.Journal { slow.Journal = j; return slow })
		_, err := s.Publish(t.Context(), broadcast.Message{Topic: "x"})
		require.ErrorContains(t, err, "in an engine")
		require.NotErrorIs(t, err, broadcast.ErrNotPublished)
	})
}

// An engine that refuses all messages is asked about one by one for a bounded time.
func TestRefusedGroupIsTriedForABoundedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowJournal{takes: 5 * time.Second, refuse: func(broadcast.Message) bool { return true }}
		s := newServer(t, &broadcasttest.Journal{}, func(j broadcast.Journal) broadcast.Journal { slow.Journal = j; return slow })
		began := time.Now()
		var all sync.WaitGroup
		for range 600 {
			all.Go(func() {
				_, err := s.Publish(t.Context(), broadcast.Message{Topic: "x"})
				require.ErrorIs(t, err, broadcast.ErrNotPublished)
			})
		}
		all.Wait()
		require.LessOrEqual(t, time.Since(began), time.Minute)
	})
}
