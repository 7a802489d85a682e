package redisjournal_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// Messages that are too large for Redis are refused alone, before they are sent, and the others
// of the same Append are added in their order.
func TestAppendOfMessagesThatAreTooLarge(t *testing.T) {
	for _, limit := range []string{"proto-max-bulk-len", "client-query-buffer-limit"} {
		t.Run(limit, func(t *testing.T) {
			s := start(t, "--"+limit, "2mb")
			j := s.journal()
			f := follow(t, j, broadcast.ID{})
			f.yields(add(t, j, "before"), "before")
			large, accepted := strings.Repeat("x", 3<<20), strings.Repeat("x", 3<<19)
			ms := make([]broadcast.Message, 0, 6)
			for _, text := range []string{"one", large, accepted, "two", large, "three"} {
				ms = append(ms, broadcast.Message{Topic: "t", Data: []byte(text)})
			}
			ids, err := j.Append(t.Context(), ms...)
			errs := broadcast.AppendErrors(nil)
			require.ErrorAs(t, err, &errs)
			require.Len(t, errs, 6)
			require.Len(t, ids, 6)
			for _, i := range []int{1, 4} {
				require.ErrorIs(t, errs[i], broadcast.ErrNotPublished)
				require.ErrorContains(t, errs[i], `topic "t" has 3145729 bytes`)
				require.ErrorContains(t, errs[i], "proto-max-bulk-len")
				require.Zero(t, ids[i])
			}
			given := []broadcast.ID{ids[0], ids[2], ids[3], ids[5]}
			f.yields(given, "one", accepted, "two", "three")
			require.Equal(t, given[0].Seq()+3, given[3].Seq())

			ids, err = j.Append(t.Context(), ms[1])
			require.Nil(t, ids)
			require.ErrorIs(t, err, broadcast.ErrNotPublished)
			require.NotErrorAs(t, err, &errs, "one message has one error")
			_, err = j.Append(t.Context(), ms[1], ms[4])
			require.ErrorIs(t, err, broadcast.ErrNotPublished)
		})
	}
}

// An engine that refuses everything, and one that does so in the middle of a large Append, give
// each message its error. What is not sent after a failure is surely not published.
func TestAppendThatFailsInTheMiddle(t *testing.T) {
	s := start(t)
	j := s.journal()
	f := follow(t, j, broadcast.ID{})
	ids := add(t, j, "first")
	f.yields(ids, "first")
	large := make([]broadcast.Message, 64)
	for i := range large {
		large[i] = broadcast.Message{Topic: "t", Data: []byte(strings.Repeat("x", 300_000))}
	}
	s.do("CONFIG", "SET", "maxmemory", "12mb", "maxmemory-policy", "noeviction")
	ids, err := j.Append(t.Context(), large...)
	errs := broadcast.AppendErrors(nil)
	require.ErrorAs(t, err, &errs)
	added := 0
	for i, err := range errs {
		if err == nil {
			require.Equal(t, i, added, "one after a refusal was added")
			added++
			f.yields(ids[i:], string(large[i].Data))
			continue
		}
		require.Zero(t, ids[i])
		require.ErrorIs(t, err, broadcast.ErrNotPublished)
		require.ErrorContains(t, err, "OOM")
	}
	require.NotZero(t, added)
	_, err = j.Append(t.Context(), large[:1]...)
	require.ErrorIs(t, err, broadcast.ErrNotPublished)
	require.NotErrorAs(t, err, &errs, "one message has one error")
	s.do("CONFIG", "SET", "maxmemory", 0)
	f.yields(add(t, j, "last"), "last")
}
