package redisjournal_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// An entry that others add counts by its ID. Once they add one without the prefix "0-", every
// call fails until the key is deleted.
func TestForeignEntries(t *testing.T) {
	s := start(t)
	j := s.journal()
	ids := add(t, j, "one")
	f := follow(t, j, broadcast.ID{})
	f.yields(ids, "one")
	s.do("XADD", "fanfare", "0-*", "field", "value")
	require.Equal(t, ids[0].Seq()+1, f.foreign().Seq())
	ids = add(t, j, "two")
	f.yields(ids, "two")
	s.do("XADD", "fanfare", "0-50", "field", "value")
	require.Equal(t, uint64(49), f.gap().Seq())
	require.Equal(t, uint64(50), f.foreign().Seq())
	s.do("XDEL", "fanfare", "0-50")
	ids = add(t, j, "three")
	require.Equal(t, uint64(51), ids[0].Seq(), "a deleted entry's ID is not given again")
	f.yields(ids, "three")

	for _, id := range []string{"7-*", "*"} {
		s.do("XADD", "fanfare", id, "field", "value")
		require.ErrorContains(t, f.fails(), "delete the key")
		_, _, err := j.Bounds(t.Context())
		require.ErrorContains(t, err, "delete the key")
		_, err = j.Append(t.Context(), broadcast.Message{Topic: "t"})
		require.ErrorContains(t, err, "delete the key")
		require.ErrorIs(t, err, broadcast.ErrNotPublished)
		s.do("DEL", "fanfare")
		f = follow(t, j, ids[0])
		f.gap()
		ids = add(t, j, "four")
		f.yields(ids, "four")
	}
}
