package redisjournal_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/redisjournal"
)

// A field that is impossible is named by the error of every method.
func TestSettings(t *testing.T) {
	ring := redis.NewRing(&redis.RingOptions{})
	t.Cleanup(func() { ring.Close() })
	client := redis.NewClient(&redis.Options{})
	t.Cleanup(func() { client.Close() })
	for _, test := range []struct {
		name    string
		journal *redisjournal.Journal
		reason  string
	}{
		{"no client", &redisjournal.Journal{}, "Journal.Client is nil"},
		{"a ring", &redisjournal.Journal{Client: ring}, "Journal.Client is a *redis.Ring"},
		{"negative", &redisjournal.Journal{Client: client, MaxEntries: -1}, "Journal.MaxEntries is -1"},
	} {
		_, err := test.journal.Append(t.Context(), broadcast.Message{Topic: "t"})
		assert.ErrorContains(t, err, test.reason, test.name)
		assert.ErrorIs(t, err, broadcast.ErrNotPublished, test.name)
		_, _, err = test.journal.Bounds(t.Context())
		assert.ErrorContains(t, err, test.reason, test.name)
		assert.ErrorContains(t, follow(t, test.journal, broadcast.ID{}).fails(), test.reason, test.name)
	}
}

// The stream keeps MaxEntries, and at most a block more.
func TestMaxEntries(t *testing.T) {
	s := start(t)
	j := &redisjournal.Journal{Client: s.client("node"), MaxEntries: 200}
	for range 10 {
		add(t, j, many("x", 100)...)
	}
	require.LessOrEqual(t, s.admin.XLen(t.Context(), "fanfare").Val(), int64(300))
	require.GreaterOrEqual(t, s.admin.XLen(t.Context(), "fanfare").Val(), int64(200))
}

// A key that no Journal has created is not used until it is deleted.
func TestKeyOfOthers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, reason string
		command      []any
	}{
		{"a string", "WRONGTYPE the key holds a string", []any{"SET", "fanfare", "x"}},
		{"a hash", "WRONGTYPE the key holds a hash", []any{"HSET", "fanfare", "x", "y"}},
		{"a stream", "NOTJOURNAL", []any{"XADD", "fanfare", "*", "x", "y"}},
		{"a stream with a group", "NOTJOURNAL", []any{"XGROUP", "CREATE", "fanfare", "workers", "$", "MKSTREAM"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := start(t)
			s.do(test.command...)
			j := s.journal()
			_, err := j.Append(t.Context(), broadcast.Message{Topic: "t"})
			require.ErrorContains(t, err, test.reason)
			require.ErrorIs(t, err, broadcast.ErrNotPublished)
			_, _, err = j.Bounds(t.Context())
			require.ErrorContains(t, err, test.reason)
			require.ErrorContains(t, follow(t, j, broadcast.ID{}).fails(), test.reason)
			s.do("DEL", "fanfare")
			ids := add(t, j, "one")
			follow(t, j, broadcast.ID{}).yields(ids, "one")
		})
	}
}
