package broadcasttest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

func testAppend(t *testing.T, j broadcast.Journal) {
	ids := addAll(t, j, many("x", 0, 5)...)
	ids = append(ids, add(t, j, "alone", "alone too")...)
	ids = append(ids, addAll(t, j, many("y", 0, 3)...)...)
	for i, id := range ids {
		require.Greater(t, id.Epoch(), uint64(1), "the epoch")
		require.NotZero(t, id.Seq(), "the sequence of an entry")
		if i > 0 {
			require.Equal(t, ids[0].Epoch(), id.Epoch(), "the epoch")
			require.Greater(t, id.Seq(), ids[i-1].Seq(), "the sequence")
		}
	}
}

func testAppendToTail(t *testing.T, j broadcast.Journal) {
	f := follow(t, j, broadcast.ID{})
	for i := range 10 {
		texts := many(fmt.Sprint(i), 0, 1+i*3)
		f.exactly(addAll(t, j, texts...), texts)
		f.exactly(add(t, j, texts...), texts)
	}
}

func testJournalFields(t *testing.T, j broadcast.Journal) {
	f := follow(t, j, broadcast.ID{})
	var all []broadcast.Message
	for _, m := range []broadcast.Message{
		{Topic: "a", Key: "k", Data: []byte("1")},
		{Topic: "a", Key: "größe /*>", Type: "tick", Binary: true, Data: []byte{0}},
		{Topic: "a", Key: "k", Removed: true},
		{Topic: "a", First: true, Data: []byte("text")},
		{Topic: "a", End: true},
		{Topic: "a", First: true, End: true},
	} {
		all = append(all, m)
		ids, err := j.Append(background(t), m)
		require.NoError(t, err)
		requireSame(t, m, ids[0], f.next())
	}
	for _, kind := range kinds {
		all = append(all, kind.msg)
		ids, err := j.Append(background(t), kind.msg)
		require.NoError(t, err, kind.name)
		requireSame(t, kind.msg, ids[0], f.next())
	}
	ids, err := j.Append(background(t), all...)
	require.NoError(t, err)
	for i, m := range all {
		requireSame(t, m, ids[i], f.next())
	}
	require.Zero(t, f.gaps, "the number of gaps")
}

func testJournalTopics(t *testing.T, j broadcast.Journal) {
	f := follow(t, j, broadcast.ID{})
	for _, topic := range validTopics {
		m := broadcast.Message{Topic: topic, Data: []byte("on " + topic)}
		ids, err := j.Append(background(t), m)
		require.NoError(t, err, "topic %q", topic)
		requireSame(t, m, ids[0], f.next())
	}
}

func testLargeAppend(t *testing.T, j broadcast.Journal) {
	f := follow(t, j, broadcast.ID{})
	texts := many("x", 0, 512)
	f.exactly(addAll(t, j, texts...), texts)
}

// large is more than most engines accept of a message, if they have a bound.
const large = 9 << 20

func testRefusedMessages(t *testing.T, j broadcast.Journal) {
	f := follow(t, j, broadcast.ID{})
	ms := []broadcast.Message{
		{Topic: "t", Data: []byte("before")},
		{Topic: "t", Data: make([]byte, large)},
		{Topic: "t", Data: []byte("after")},
	}
	ids, err := j.Append(background(t), ms...)
	each, isEach := errors.AsType[broadcast.AppendErrors](err)
	switch {
	case isEach:
		require.Len(t, each, len(ms), "AppendErrors for messages")
		require.Len(t, ids, len(ms), "IDs beside AppendErrors")
		require.NotEqual(t, make(broadcast.AppendErrors, len(ms)), each, "AppendErrors without an error")
	case err != nil:
		each = broadcast.AppendErrors{err, err, err}
	default:
		require.Len(t, ids, len(ms))
		each = make(broadcast.AppendErrors, len(ms))
	}
	last := add(t, j, "last")[0]
	yielded := make(map[string]broadcast.ID)
	for m := f.next(); m.ID != last; m = f.next() {
		yielded[m.Topic+string(m.Data)] = m.ID
	}
	for i, m := range ms {
		id, was := yielded[m.Topic+string(m.Data)]
		switch {
		case each[i] == nil:
			require.Equal(t, ids[i], id, "message %d, which was added", i)
		case errors.Is(each[i], broadcast.ErrNotPublished):
			require.False(t, was, "message %d was added, after %v", i, each[i])
		}
		if isEach && each[i] != nil {
			require.Zero(t, ids[i], "the ID of message %d, which was refused", i)
		}
	}
	require.Zero(t, f.gaps, "the number of gaps")
}

func testConcurrentAppends(t *testing.T, j broadcast.Journal) {
	const appenders, each = 8, 25
	f := follow(t, j, broadcast.ID{})
	byText := make(map[string]broadcast.ID)
	var mu sync.Mutex
	var all sync.WaitGroup
	for a := range appenders {
		all.Go(func() {
			for i := range each {
				var ms []broadcast.Message
				for k := range 1 + (a+i)%3 {
					ms = append(ms, broadcast.Message{Topic: "t", Data: fmt.Append(nil, a, " ", i, " ", k)})
				}
				ids := tryAppend(t, j, ms...)
				if ids == nil {
					return
				}
				mu.Lock()
				for k, id := range ids {
					byText[string(ms[k].Data)] = id
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	seen := make(map[broadcast.ID]bool)
	for range byText {
		m := f.next()
		require.Equal(t, byText[string(m.Data)], m.ID, "the ID of %q", m.Data)
		require.False(t, seen[m.ID], "%v was yielded twice", m.ID)
		seen[m.ID] = true
	}
	f.exactly(add(t, j, "last"), []string{"last"})
	require.Zero(t, f.gaps, "the number of gaps")
}

func testJournalEndedContext(t *testing.T, j broadcast.Journal) {
	f := follow(t, j, broadcast.ID{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := j.Append(ctx, broadcast.Message{Topic: "t", Data: []byte("ended")})
	require.ErrorIs(t, err, context.Canceled, "Append")
	notAdded := errors.Is(err, broadcast.ErrNotPublished)
	_, _, err = j.Bounds(ctx)
	require.ErrorIs(t, err, context.Canceled, "Bounds")
	last := add(t, j, "last")[0]
	for m := f.next(); m.ID != last; m = f.next() {
		require.Equal(t, "ended", string(m.Data))
		require.False(t, notAdded, "the message was added, after ErrNotPublished")
	}
}

func testBounds(t *testing.T, j broadcast.Journal) {
	first := add(t, j, "first")[0]
	for i := range 20 {
		ids := addAll(t, j, many("x", 0, 1+i%3)...)
		oldest, newest, err := j.Bounds(background(t))
		require.NoError(t, err)
		require.Equal(t, ids[len(ids)-1], newest, "newest")
		require.Equal(t, first.Epoch(), oldest.Epoch(), "the epoch of oldest")
		require.LessOrEqual(t, oldest.Seq(), first.Seq(), "oldest and the first message")
	}
}

func testBoundsOfEmpty(t *testing.T, j broadcast.Journal) {
	oldest, newest, err := j.Bounds(background(t))
	require.NoError(t, err)
	require.Greater(t, newest.Epoch(), uint64(1), "the epoch")
	require.Equal(t, newest.Epoch(), oldest.Epoch(), "the epochs of oldest and newest")
	require.LessOrEqual(t, oldest.Seq(), newest.Seq()+1, "oldest is at most newest+1")
	id := add(t, j, "first")[0]
	require.Equal(t, newest.Epoch(), id.Epoch(), "the epoch of the first message")
	require.Greater(t, id.Seq(), newest.Seq(), "the sequence of the first message")
}
