package broadcast_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
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

// choosy is a Journal that says which messages of a group it refuses. It takes a moment, so
// that messages wait for each other.
type choosy struct {
	broadcast.Journal
	answer func(ids []broadcast.ID, errs broadcast.AppendErrors) ([]broadcast.ID, error)
	calls  atomic.Int64
}

func (j *choosy) Append(ctx context.Context, ms ...broadcast.Message) ([]broadcast.ID, error) {
	j.calls.Add(1)
	time.Sleep(time.Millisecond)
	ids, errs := make([]broadcast.ID, len(ms)), make(broadcast.AppendErrors, len(ms))
	for i, m := range ms {
		switch string(m.Data) {
		case "bad":
			errs[i] = fmt.Errorf("%w: too large for it", broadcast.ErrNotPublished)
		case "unknown":
			errs[i] = errors.New("no answer")
		default:
			one, err := j.Journal.Append(ctx, m)
			if err != nil {
				return nil, err
			}
			ids[i] = one[0]
		}
	}
	if slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		return j.answer(ids, errs)
	}
	return ids, nil
}

// publishAll publishes texts at once, and returns the error of each.
func (s *server) publishAll(texts ...string) []error {
	errs := make([]error, len(texts))
	var all sync.WaitGroup
	for i, text := range texts {
		all.Go(func() {
			_, errs[i] = s.Publish(s.t.Context(), broadcast.Message{Topic: "x", Data: []byte(text)})
		})
	}
	all.Wait()
	return errs
}

// Each publisher gets the error of its own message, whatever became of the others of its
// group, and none is appended a second time.
func TestEachMessageOfAGroupHasItsOwnFate(t *testing.T) {
	for name, wrap := range map[string]func(error) error{
		"as it is": func(err error) error { return err },
		"wrapped":  func(err error) error { return fmt.Errorf("an engine: %w", err) },
	} {
		synctest.Test(t, func(t *testing.T) {
			j := &choosy{answer: func(ids []broadcast.ID, errs broadcast.AppendErrors) ([]broadcast.ID, error) { return ids, wrap(errs) }}
			s := newServer(t, new(broadcasttest.Journal), func(inner broadcast.Journal) broadcast.Journal { j.Journal = inner; return j })
			r := s.resume(s.position(), "x")
			texts := []string{"bad", "good", "unknown"}
			for range 6 {
				texts = append(texts, texts[:3]...)
			}
			errs := s.publishAll(texts...)
			good := 0
			for i, err := range errs {
				switch texts[i] {
				case "good":
					good++
					require.NoError(t, err, name)
				case "bad":
					require.ErrorIs(t, err, broadcast.ErrNotPublished, name)
					require.ErrorContains(t, err, "too large", name)
				default:
					require.NotErrorIs(t, err, broadcast.ErrNotPublished, "%s: it may arrive", name)
					require.ErrorContains(t, err, "no answer", name)
				}
			}
			require.LessOrEqual(t, j.calls.Load(), int64(3), "%s: calls of Append", name)
			require.Len(t, r.poll(), good, name)

			require.ErrorIs(t, s.publishAll("bad")[0], broadcast.ErrNotPublished, "%s: alone", name)
			require.EqualValues(t, good, s.Stats().Position.Seq(), name)
		})
	}
}

// A Journal that breaks the contract fails the group, whose messages may arrive.
func TestAppendErrorsThatFitNoMessages(t *testing.T) {
	for name, answer := range map[string]func(ids []broadcast.ID, errs broadcast.AppendErrors) ([]broadcast.ID, error){
		"too few errors": func(ids []broadcast.ID, errs broadcast.AppendErrors) ([]broadcast.ID, error) { return ids, errs[:1] },
		"no IDs":         func(_ []broadcast.ID, errs broadcast.AppendErrors) ([]broadcast.ID, error) { return nil, errs },
		"a zero ID": func(ids []broadcast.ID, errs broadcast.AppendErrors) ([]broadcast.ID, error) {
			clear(ids)
			return ids, errs
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			j := &choosy{answer: answer}
			s := newServer(t, new(broadcasttest.Journal), func(inner broadcast.Journal) broadcast.Journal { j.Journal = inner; return j })
			var before sync.WaitGroup
			for range 2 { // as many as are in flight at once, so that the others are one group
				before.Go(func() { s.publishAll("before") })
				synctest.Wait() // until it is in flight, or the second would go with the first
			}
			errs := s.publishAll("good", "bad", "good")
			before.Wait()
			for _, err := range []error{errs[0], errs[2]} {
				require.Error(t, err, name)
				require.NotErrorIs(t, err, broadcast.ErrNotPublished, name)
			}
		})
	}
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
