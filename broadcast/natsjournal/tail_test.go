package natsjournal_test

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// A tail continues after the given ID; where that is not possible, it yields a gap first.
func TestTailStart(t *testing.T) {
	tests := []struct {
		name  string
		after func(epoch uint64) broadcast.ID
		gap   uint64 // the sequence of the gap; 0: no gap
		first int    // the first message that follows; 10: none
	}{
		{"zero: all that is kept", func(uint64) broadcast.ID { return broadcast.ID{} }, 0, 4},
		{"just before the oldest", func(e uint64) broadcast.ID { return broadcast.MakeID(e, 4) }, 0, 4},
		{"trimmed", func(e uint64) broadcast.ID { return broadcast.MakeID(e, 3) }, 4, 4},
		{"in the middle", func(e uint64) broadcast.ID { return broadcast.MakeID(e, 7) }, 0, 7},
		{"the newest", func(e uint64) broadcast.ID { return broadcast.MakeID(e, 10) }, 0, 10},
		{"ahead of the newest", func(e uint64) broadcast.ID { return broadcast.MakeID(e, 100) }, 10, 10},
		{"another epoch", func(e uint64) broadcast.ID { return broadcast.MakeID(e+1, 7) }, 4, 4},
		{"another epoch, ahead", func(e uint64) broadcast.ID { return broadcast.MakeID(e+1, 700) }, 4, 4},
	}
	e := startEngine(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			j := fresh(t, e)
			ids := add(t, j, numbers(0, 10)...)
			s, err := admin(t, j.Conn).Stream(t.Context(), j.Stream)
			require.NoError(t, err)
			require.NoError(t, s.Purge(t.Context(), jetstream.WithPurgeSequence(5)))
			epoch := ids[0].Epoch()
			f := follow(t, j, test.after(epoch))
			if test.gap != 0 {
				require.Equal(t, broadcast.MakeID(epoch, test.gap), f.gap())
			}
			f.yields(ids[test.first:], numbers(test.first, 10)...)
			f.yields(add(t, j, "next"), "next")
		})
	}
}

// A purge of entries that a tail has yielded is not a gap for it; the sequence continues.
func TestTailDuringAPurge(t *testing.T) {
	e := startEngine(t)
	j := e.journal()
	ids := add(t, j, numbers(0, 10)...)
	f := follow(t, j, ids[3])
	f.yields(ids[4:], numbers(4, 10)...)
	require.NoError(t, stream(t, admin(t, j.Conn)).Purge(t.Context()))
	f.yields(add(t, j, "next"), "next") // it had yielded all of them

	oldest, newest, err := j.Bounds(within(t))
	require.NoError(t, err)
	require.Equal(t, uint64(11), oldest.Seq())
	require.Equal(t, uint64(11), newest.Seq())
	require.NoError(t, stream(t, admin(t, j.Conn)).Purge(t.Context()))
	oldest, newest, err = j.Bounds(within(t))
	require.NoError(t, err)
	require.Equal(t, uint64(12), oldest.Seq(), "nothing is kept")
	require.Equal(t, uint64(11), newest.Seq())
	require.Equal(t, newest, follow(t, j, ids[3]).gap(), "the gap is yielded although nothing follows it")
}

// Entries that are deleted before a tail has pulled them are yielded as a gap. There are
// more of them than one pull delivers.
func TestTailDuringADeletion(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		trim func(*testing.T, jetstream.Stream)
		gaps []uint64 // sequences
	}{
		{"to the newest", func(t *testing.T, s jetstream.Stream) {
			require.NoError(t, s.Purge(t.Context(), jetstream.WithPurgeKeep(10)))
		}, []uint64{2990}},
		{"all, so that nothing follows the gap", func(t *testing.T, s jetstream.Stream) {
			require.NoError(t, s.Purge(t.Context()))
		}, []uint64{3000}},
		{"in the middle", func(t *testing.T, s jetstream.Stream) {
			require.NoError(t, s.DeleteMsg(t.Context(), 2000))
			require.NoError(t, s.DeleteMsg(t.Context(), 2500))
		}, []uint64{2000, 2500}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			j := startEngine(t).journal()
			ids := addMany(t, j, 3000)
			f := follow(t, j, broadcast.ID{})
			f.yields(ids[:1], "0") // the first pull has been answered; the next is sent once its entries are read
			test.trim(t, stream(t, admin(t, j.Conn)))
			var gaps []uint64
			last := ids[0]
			for last.Seq() < 3000 {
				m, err := f.next()
				if err != nil {
					require.ErrorIs(t, err, broadcast.ErrGap)
					gaps = append(gaps, m.ID.Seq())
				} else {
					require.Equal(t, last.Seq()+1, m.ID.Seq())
				}
				require.Equal(t, last.Epoch(), m.ID.Epoch())
				last = m.ID
			}
			require.Equal(t, test.gaps, gaps)
			f.yields(add(t, j, "next"), "next")
		})
	}
}

func addMany(t *testing.T, j broadcast.Journal, n int) []broadcast.ID {
	t.Helper()
	var ids []broadcast.ID
	for from := 0; from < n; from += 500 {
		var ms []broadcast.Message
		for _, text := range numbers(from, min(from+500, n)) {
			ms = append(ms, message(text))
		}
		more, err := j.Append(within(t), ms...)
		require.NoError(t, err)
		ids = append(ids, more...)
	}
	return ids
}

// A restart of an engine that stores the stream on disk is not a gap.
func TestTailDuringARestart(t *testing.T) {
	e := startEngine(t)
	j, other := e.journal(), e.journal()
	f := follow(t, j, broadcast.ID{})
	f.yields(add(t, j, "first"), "first")
	f.yields(add(t, other, "before"), "before")
	e.restart()
	f.yields(add(t, other, "after", "more"), "after", "more")
}

// A tail that ends, for whatever reason, deletes its consumer and its subscription.
func TestTailReleasesItsConsumer(t *testing.T) {
	e := startEngine(t)
	j := e.journal()
	first := add(t, j, "0", "1", "2")[0] // this also opens the subscription for acknowledgements
	s := stream(t, admin(t, j.Conn))
	consumers := func() int {
		info, err := s.Info(t.Context())
		require.NoError(t, err)
		return info.State.Consumers
	}
	inEngine, inClient := e.NumSubscriptions(), j.Conn.NumSubscriptions()
	clean := func() bool {
		_ = s.DeleteConsumer(t.Context(), "fanfare-witness") // it stays until a node uses the stream again
		return consumers() == 0 && e.NumSubscriptions() == inEngine && j.Conn.NumSubscriptions() == inClient
	}

	broken := follow(t, j, first)
	broken.yields(nil, "1")
	require.Equal(t, 1, consumers(), "one for each tail")
	broken.stop()
	require.Eventually(t, clean, soon, moment, "after break")

	cancelled := follow(t, j, first)
	cancelled.yields(nil, "1", "2")
	cancelled.cancel()
	_, _, ok := cancelled.pull()
	require.True(t, ok)
	require.Eventually(t, clean, soon, moment, "after the end of ctx")

	hub := &broadcast.Hub{Journal: j}
	run(t, hub)
	require.Eventually(t, func() bool { return consumers() == 1 }, soon, moment)
	hub.Close()
	require.Eventually(t, clean, soon, moment, "after Hub.Close")
}

// A tail that is behind reads thousands of entries in one round trip, and so keeps up on a
// network with a long delay. One that is not asks for fewer.
func TestTailThatIsBehind(t *testing.T) {
	e := startEngine(t)
	j := e.journal()
	const n = 20_000
	ids := addMany(t, j, n)
	pulls, err := e.connect().SubscribeSync("$JS.API.CONSUMER.MSG.NEXT.>")
	require.NoError(t, err)
	require.NoError(t, pulls.SetPendingLimits(-1, -1))
	f := follow(t, j, broadcast.ID{})
	f.yields(ids, numbers(0, n)...)
	count, _, err := pulls.Pending()
	require.NoError(t, err)
	require.LessOrEqual(t, count, 5, "pulls")
	f.yields(add(t, j, "next"), "next")
}
