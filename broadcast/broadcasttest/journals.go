package broadcasttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// TestJournal checks that the journals which open returns keep the contract of
// [broadcast.Journal]. Open returns a new one for each case, to which nobody else
// appends; what it opens it closes with t.Cleanup. The journal must keep at least
// the 1,000 newest entries.
//
// What an engine does when it fails is not tested: that is the engine's own test.
func TestJournal(t *testing.T, open func(*testing.T) broadcast.Journal) {
	require.NotNil(t, open, "open")
	for _, test := range journalCases {
		t.Run(test.name, func(t *testing.T) {
			t.Cleanup(func() {
				if t.Failed() {
					t.Log("the rule:", test.rule)
				}
			})
			test.run(t, open(t))
		})
	}
}

type journalCase struct {
	name, rule string
	run        func(*testing.T, broadcast.Journal)
}

var journalCases = []journalCase{
	{
		"append",
		"Append returns an ID for each message, in their order; all are in one epoch, which is neither 0 nor 1, and rise.",
		testAppend,
	},
	{
		"append to a tail",
		"The messages of one Append and of one after the other are yielded in their order, under the IDs that Append returned.",
		testAppendToTail,
	},
	{
		"fields",
		"Topic, Type, From, Data and Binary of a message are yielded as they were appended; its ID is the journal's.",
		testJournalFields,
	},
	{
		"topics",
		"Topics are yielded as they were appended: nothing in them means anything to the engine.",
		testJournalTopics,
	},
	{
		"tail of all",
		"Tail behind the zero ID yields all that is kept, then what comes.",
		testTailOfAll,
	},
	{
		"tail from an ID",
		"Tail behind an ID yields exactly what followed it, then what comes.",
		testTailFromID,
	},
	{
		"tail of the new",
		"Tail behind the newest entry yields only what is appended from then on.",
		testTailOfNew,
	},
	{
		"tail of an empty journal",
		"Tail behind the newest ID of an empty journal yields what comes.",
		testTailOfEmpty,
	},
	{
		"several tails",
		"Several Tails at once, each from its own place, yield the same entries.",
		testSeveralTails,
	},
	{
		"tail of another epoch",
		"Tail behind an ID of another epoch yields a gap with an ID of the journal's before anything else, then what is kept behind that ID.",
		testTailOfOtherEpoch,
	},
	{
		"end of a tail",
		"A Tail ends when its ctx ends, also while it waits, and when its consumer stops.",
		testEndOfTail,
	},
	{
		"bounds",
		"Bounds are the oldest kept entry and the newest there ever was, as soon as Append has returned.",
		testBounds,
	},
	{
		"bounds of an empty journal",
		"An empty journal has an epoch, the one that its messages get; its oldest is one behind its newest.",
		testBoundsOfEmpty,
	},
	{
		"large append",
		"One Append takes 512 messages.",
		testLargeAppend,
	},
	{
		"concurrent appends",
		"No ID is given twice, and each message is yielded once under the ID that its Append returned.",
		testConcurrentAppends,
	},
	{
		"ended context",
		"Append and Bounds return the error of a context that has ended; what wraps ErrNotPublished was not added.",
		testJournalEndedContext,
	},
}

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
	require.Zero(t, f.gaps, "gaps yielded")
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

func testTailOfAll(t *testing.T, j broadcast.Journal) {
	texts := many("x", 0, 20)
	ids := addAll(t, j, texts...)
	f := follow(t, j, broadcast.ID{})
	f.exactly(ids, texts)
	f.exactly(add(t, j, "live"), []string{"live"})
	require.Zero(t, f.gaps, "gaps yielded")
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
	require.Equal(t, ids[0].Epoch(), m.ID.Epoch(), "the epoch that the gap goes over to")
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
	require.LessOrEqual(t, oldest.Seq(), newest.Seq()+1, "oldest is at most one behind newest")
	id := add(t, j, "first")[0]
	require.Equal(t, newest.Epoch(), id.Epoch(), "the epoch of the first message")
	require.Greater(t, id.Seq(), newest.Seq(), "the sequence of the first message")
}

func testLargeAppend(t *testing.T, j broadcast.Journal) {
	f := follow(t, j, broadcast.ID{})
	texts := many("x", 0, 512)
	f.exactly(addAll(t, j, texts...), texts)
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
		require.False(t, seen[m.ID], "%v twice", m.ID)
		seen[m.ID] = true
	}
	f.exactly(add(t, j, "last"), []string{"last"})
	require.Zero(t, f.gaps, "gaps yielded")
}

func testJournalEndedContext(t *testing.T, j broadcast.Journal) {
	f := follow(t, j, broadcast.ID{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := j.Append(ctx, broadcast.Message{Topic: "t", Data: []byte("ended")})
	require.ErrorIs(t, err, context.Canceled, "Append")
	surely := errors.Is(err, broadcast.ErrNotPublished)
	_, _, err = j.Bounds(ctx)
	require.ErrorIs(t, err, context.Canceled, "Bounds")
	last := add(t, j, "last")[0]
	for m := f.next(); m.ID != last; m = f.next() {
		require.Equal(t, "ended", string(m.Data))
		require.False(t, surely, "the message came, after ErrNotPublished")
	}
}
