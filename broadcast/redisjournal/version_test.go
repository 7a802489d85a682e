package redisjournal_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/redisjournal"
)

// addAs adds an entry with these fields as another version of a Journal might.
func addAs(t *testing.T, s *server, fields ...any) {
	t.Helper()
	require.NoError(t, s.admin.XAdd(t.Context(), &redis.XAddArgs{Stream: "fanfare", ID: "0-*", MaxLen: 100_000, Approx: true, Values: fields}).Err())
}

// Entries of an earlier version, without links, and of a later one, with more fields, are
// messages like others, between those of this version.
func TestEntriesOfOtherVersions(t *testing.T) {
	s := start(t)
	j := s.journal()
	f := follow(t, j, broadcast.ID{})
	epoch := add(t, j, "0")[0].Epoch()
	behind := follow(t, j, broadcast.MakeID(epoch, 1))
	for i := range 20 {
		text := fmt.Sprint(i + 1)
		switch i % 3 {
		case 0:
			addAs(t, s, "topic", "t", "type", "", "from", "", "data", text, "binary", "")
		case 1:
			addAs(t, s, "key", "k", "removed", "", "topic", "t", "data", text, "first", "1", "end", "3", "link", "another kind of link")
		default:
			add(t, j, text)
		}
		if i < 10 { // read as they come, and later at once
			f.yields([]broadcast.ID{broadcast.MakeID(epoch, uint64(i)+1)}, fmt.Sprint(i))
		}
	}
	for i := range uint64(20) {
		id := broadcast.MakeID(epoch, i+2)
		behind.yields([]broadcast.ID{id}, fmt.Sprint(i+1))
		if i >= 9 {
			f.yields([]broadcast.ID{id}, fmt.Sprint(i+1))
		}
	}
}

// An entry has its fields by name, and only those that are not empty.
func TestFieldsOfAnEntry(t *testing.T) {
	s := start(t)
	j := s.journal()
	_, err := j.Append(t.Context(), broadcast.Message{Topic: "t"},
		broadcast.Message{Topic: "t", Type: "y", From: "f", Data: []byte("d"), Binary: true},
		broadcast.Message{Topic: "t", Key: "k", Removed: true}, broadcast.Message{Topic: "t", First: true, End: true})
	require.NoError(t, err)
	entries, err := s.admin.XRange(t.Context(), "fanfare", "-", "+").Result()
	require.NoError(t, err)
	for _, e := range entries {
		require.NotEmpty(t, e.Values["link"])
		delete(e.Values, "link")
	}
	require.Equal(t, map[string]any{"topic": "t"}, entries[0].Values)
	require.Equal(t, map[string]any{"topic": "t", "type": "y", "from": "f", "data": "d", "binary": "1"}, entries[1].Values)
	require.Equal(t, map[string]any{"topic": "t", "key": "k", "removed": "1"}, entries[2].Values)
	require.Equal(t, map[string]any{"topic": "t", "first": "1", "end": "1"}, entries[3].Values)
}

// A user needs the commands that the package's documentation lists, and those that are said to
// be of use can be missing. Without one of the others each call says which.
func TestCommandsOfTheUser(t *testing.T) {
	t.Parallel()
	required := strings.Fields("eval evalsha info type xadd xgroup xinfo xrange xread")
	for _, test := range []struct {
		name, missing string
		more          []string
	}{
		{"all", "", []string{"xrevrange", "xpending", "config"}},
		{"only those that are required", "", nil},
		{"no XADD", "xadd", nil},
		{"no XREAD", "xread", nil},
		{"no INFO", "info", nil},
		{"no XINFO", "xinfo", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := start(t)
			rules := []any{"ACL", "SETUSER", "user", "on", "nopass", "~fanfare", "+hello", "+client"}
			for _, command := range append(required, test.more...) {
				if command != test.missing {
					rules = append(rules, "+"+command)
				}
			}
			s.do(rules...)
			client := redis.NewClient(&redis.Options{Addr: s.address, Username: "user", Password: "x", DisableIdentity: true})
			t.Cleanup(func() { client.Close() })
			j := &redisjournal.Journal{Client: client, Logger: quiet()}
			if test.missing == "" {
				f := follow(t, j, broadcast.ID{})
				for i := range 5 {
					text := fmt.Sprint(i)
					f.yields(add(t, j, text), text)
				}
				return
			}
			_, err := j.Append(t.Context(), broadcast.Message{Topic: "t"})
			if err == nil { // XREAD is the tail's
				err = follow(t, j, broadcast.ID{}).failsAfterEntries()
			} else {
				require.ErrorIs(t, err, broadcast.ErrNotPublished)
			}
			require.ErrorContains(t, err, "NOPERM")
			require.Contains(t, strings.ToLower(err.Error()), test.missing)
		})
	}
}
