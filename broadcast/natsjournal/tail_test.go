package natsjournal_test

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

func TestPurgeUnderATail(t *testing.T) {
	e := startEngine(t)
	j := e.journal()
	ids := add(t, j, numbers(0, 10)...)
	f := follow(t, j, ids[3])
	f.yields(ids[4:], numbers(4, 10)...)
	require.NoError(t, stream(t, admin(t, j.Conn)).Purge(t.Context()))
	f.yields(add(t, j, "next"), "next") // it had all of them: no loss

	oldest, newest, err := j.Bounds(within(t))
	require.NoError(t, err)
	require.Equal(t, uint64(11), oldest.Seq())
	require.Equal(t, uint64(11), newest.Seq())
	require.NoError(t, stream(t, admin(t, j.Conn)).Purge(t.Context()))
	oldest, newest, err = j.Bounds(within(t))
	require.NoError(t, err)
	require.Equal(t, uint64(12), oldest.Seq(), "nothing is kept")
	require.Equal(t, uint64(11), newest.Seq())
	require.Equal(t, newest, follow(t, j, ids[3]).gap(), "told at once: nothing follows")
}

// The Tail is busy while the stream loses what it has not been sent yet: more than
// one request's worth.
func TestTrimmedUnderABusyTail(t *testing.T) {
	tests := []struct {
		name string
		trim func(*testing.T, jetstream.Stream)
		gaps []uint64 // behind which the Tail goes on
	}{
		{"to the newest", func(t *testing.T, s jetstream.Stream) {
			require.NoError(t, s.Purge(t.Context(), jetstream.WithPurgeKeep(10)))
		}, []uint64{2990}},
		{"all: nothing follows that could tell", func(t *testing.T, s jetstream.Stream) {
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
			f.yields(ids[:1], "0") // a request has been answered, the next is not sent before that is read
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

func TestPlacesOfATail(t *testing.T) {
	tests := []struct {
		name  string
		after func(epoch uint64) broadcast.ID
		gap   uint64 // 0: none
		first int    // what comes then; 10: nothing
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
