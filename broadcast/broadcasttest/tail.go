package broadcasttest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

func testTailOfAll(t *testing.T, j broadcast.Journal) {
	texts := many("x", 0, 20)
	ids := addAll(t, j, texts...)
	f := follow(t, j, broadcast.ID{})
	f.exactly(ids, texts)
	f.exactly(add(t, j, "live"), []string{"live"})
	require.Zero(t, f.gaps, "the number of gaps")
}

func testTailFromID(t *testing.T, j broadcast.Journal) {
	texts := many("x", 0, 20)
	ids := addAll(t, j, texts...)
	for i, id := range ids {
		f := follow(t, j, id)
		f.exactly(ids[i+1:], texts[i+1:])
		texts = append(texts, fmt.Sprint("live ", i))
		ids = append(ids, add(t, j, texts[len(texts)-1])...)
		f.exactly(ids[len(ids)-1:], texts[len(texts)-1:])
		f.cancel()
	}
}

func testTailOfNew(t *testing.T, j broadcast.Journal) {
	add(t, j, "before")
	_, newest, err := j.Bounds(background(t))
	require.NoError(t, err)
	f := follow(t, j, newest)
	f.exactly(add(t, j, "live"), []string{"live"})
	f.exactly(addAll(t, j, "then", "again"), []string{"then", "again"})
	// The Tail waits while these are appended.
	texts := many("meanwhile", 0, 50)
	var appender sync.WaitGroup
	defer appender.Wait()
	appender.Go(func() {
		for _, text := range texts {
			tryAppend(t, j, broadcast.Message{Topic: "t", Data: []byte(text)})
		}
	})
	for _, text := range texts {
		require.Equal(t, text, string(f.next().Data))
	}
}

func testTailOfEmpty(t *testing.T, j broadcast.Journal) {
	_, newest, err := j.Bounds(background(t))
	require.NoError(t, err)
	f := follow(t, j, newest)
	f.exactly(add(t, j, "live"), []string{"live"})
}

func testSeveralTails(t *testing.T, j broadcast.Journal) {
	texts := many("x", 0, 10)
	ids := addAll(t, j, texts...)
	tails := []*tailing{follow(t, j, broadcast.ID{}), follow(t, j, ids[0]), follow(t, j, ids[4]), follow(t, j, ids[9])}
	texts = append(texts, many("live", 0, 10)...)
	ids = append(ids, addAll(t, j, texts[10:]...)...)
	for i, from := range []int{0, 1, 5, 10} {
		tails[i].exactly(ids[from:], texts[from:])
	}
	tails[0].cancel()
	more := add(t, j, "more")
	for _, f := range tails[1:] {
		f.exactly(more, []string{"more"})
	}
}

func testTailOfOtherEpoch(t *testing.T, j broadcast.Journal) {
	texts := many("x", 0, 5)
	ids := addAll(t, j, texts...)
	f := follow(t, j, broadcast.MakeID(ids[0].Epoch()^1<<40, ids[2].Seq()))
	m, err, ok := f.pull()
	require.True(t, ok, "the Tail ended")
	require.ErrorIs(t, err, broadcast.ErrGap)
	require.Equal(t, ids[0].Epoch(), m.ID.Epoch(), "the epoch of the gap")
	f.last = m.ID
	texts, ids = append(texts, "live"), append(ids, add(t, j, "live")...)
	first := slices.IndexFunc(ids, func(id broadcast.ID) bool { return id.Seq() > m.ID.Seq() })
	f.exactly(ids[first:], texts[first:])
}

func testEndOfTail(t *testing.T, j broadcast.Journal) {
	texts := many("x", 0, 3)
	ids := addAll(t, j, texts...)
	f := follow(t, j, broadcast.ID{})
	f.exactly(ids, texts)
	f.cancel()
	if _, err, ok := f.pull(); ok {
		require.Error(t, err, "after its ctx has ended")
		_, _, ok = f.pull()
		require.False(t, ok, "an error is the last that is yielded")
	}

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	entered, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for m := range j.Tail(ctx, broadcast.ID{}) {
			if m.ID == ids[2] {
				close(entered)
			}
		}
	}()
	waitFor(t, entered, "the Tail to yield what is kept")
	cancel()
	waitFor(t, ended, "the Tail to end with its ctx")

	for range j.Tail(background(t), broadcast.ID{}) {
		break
	}
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		for range j.Tail(ctx, broadcast.ID{}) {
		}
	}()
	waitFor(t, ended, "a Tail whose ctx has ended before")
}
