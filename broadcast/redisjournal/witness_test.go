package redisjournal_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/redisjournal"
)

// An older stream that is put in place while no server runs gets a new epoch, whatever is called
// first, and whether it was longer or shorter before. Durable does not change that.
func TestEpochAfterTheStreamWentBackWhileNoServerRuns(t *testing.T) {
	s := start(t)
	calls := map[string]func(*testing.T, broadcast.Journal) uint64{
		"Append": func(t *testing.T, j broadcast.Journal) uint64 { return add(t, j, many("new", 20)...)[0].Epoch() },
		"Bounds": func(t *testing.T, j broadcast.Journal) uint64 {
			_, newest, err := j.Bounds(t.Context())
			require.NoError(t, err)
			return newest.Epoch()
		},
	}
	for way, prepare := range waysBack {
		if way == "crash with an older snapshot" { // goes back with its witness
			continue
		}
		for first, call := range calls {
			for _, durable := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s, Durable %v", way, first, durable), func(t *testing.T) {
					journal := func() *redisjournal.Journal {
						return &redisjournal.Journal{Client: s.client("node"), Key: t.Name(), Durable: durable, Logger: quiet()}
					}
					j := journal()
					old := add(t, j, many("kept", 5)...)
					back := prepare(s, t.Name())
					add(t, j, many("lost", 5)...)
					back()
					require.NotEqual(t, old[0].Epoch(), call(t, journal()))
				})
			}
		}
	}
}

// A node that has seen less than another does not append to an older copy of the stream.
func TestAppendToAnOlderCopyOfANodeThatHasSeenLess(t *testing.T) {
	s := start(t)
	one, two := s.journal(), s.journal()
	given := add(t, one, many("kept", 5)...)
	add(t, two, "seen by two") // has verified the epoch now
	s.do("COPY", "fanfare", "backup")
	add(t, one, many("lost", 5)...)
	s.do("COPY", "backup", "fanfare", "REPLACE")
	require.NotEqual(t, given[0].Epoch(), add(t, two, "new")[0].Epoch())
}

// Servers that end in any way, also while they publish, leave a stream that goes on in its epoch.
func TestEpochAfterAllServersWereStopped(t *testing.T) {
	s := start(t)
	epochs := make(map[uint64]bool)
	for range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for i := range 3 {
			j := &redisjournal.Journal{Client: s.client("node"), MaxEntries: 100, Logger: quiet()}
			epochs[add(t, j, "first")[0].Epoch()] = true
			all.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					_, _ = j.Append(ctx, broadcast.Message{Topic: "t", Data: []byte("x")})
					if i == 0 && n == 50 {
						cancel()
					}
				}
			})
		}
		all.Wait()
		cancel()
	}
	require.Len(t, epochs, 1)
}

// What others do to the end of the stream is not an older copy: they add entries, delete them or
// trim them.
func TestEpochAfterOthersEditedTheStream(t *testing.T) {
	s := start(t)
	epoch := add(t, s.journal(), "one", "two")[0].Epoch()
	for _, command := range [][]any{
		{"XADD", "fanfare", "0-*", "topic", "t"},
		{"XDEL", "fanfare", "0-2"},
		{"XDEL", "fanfare", "0-3"},
		{"XTRIM", "fanfare", "MAXLEN", 0},
		{"PERSIST", "{fanfare}:witness"},
		{"PEXPIRE", "{fanfare}:witness", 100_000},
	} {
		s.do(command...)
		require.Equal(t, epoch, add(t, s.journal(), "next")[0].Epoch(), "%v", command)
	}
	require.EqualValues(t, -1, s.do("PTTL", "{fanfare}:witness"), "the witness does not expire")
}

// Without its witness the stream may be an older copy: it gets a new epoch, unless the engine is
// Durable. Then it has a witness again.
func TestEpochWithoutTheWitness(t *testing.T) {
	for _, durable := range []bool{false, true} {
		t.Run(fmt.Sprintf("Durable %v", durable), func(t *testing.T) {
			s := start(t)
			journal := func() *redisjournal.Journal {
				return &redisjournal.Journal{Client: s.client("node"), Durable: durable, Logger: quiet()}
			}
			old := add(t, journal(), "one", "two")
			s.do("DEL", "{fanfare}:witness")
			ids := add(t, journal(), "three")
			require.Equal(t, durable, ids[0].Epoch() == old[0].Epoch())
			require.Equal(t, ids[0].Epoch(), add(t, journal(), "four")[0].Epoch())
			s.do("RENAME", "fanfare", "elsewhere")
			require.NotEqual(t, ids[0].Epoch(), add(t, journal(), "in another stream")[0].Epoch())
			s.do("RENAME", "elsewhere", "fanfare")
			require.NotEqual(t, ids[0].Epoch(), add(t, journal(), "back")[0].Epoch())
		})
	}
}

// A stream of an earlier version, which has no witness, goes on in its epoch and gets one, also
// while servers of both versions use it.
func TestEpochOfAStreamOfAnEarlierVersion(t *testing.T) {
	s := start(t)
	j := s.journal()
	old := add(t, j, "one", "two")
	s.do("DEL", "{fanfare}:witness")
	s.do("XGROUP", "DESTROY", "fanfare", "fanfare:witnessed")
	s.do("CONFIG", "SET", "maxmemory", 1) // tails read, also while the witness cannot be written
	f := follow(t, s.journal(), broadcast.MakeID(old[0].Epoch(), 1))
	f.yields(old[1:], "two")
	s.do("CONFIG", "SET", "maxmemory", 0)
	three := add(t, s.journal(), "three")
	require.Equal(t, old[0].Epoch(), three[0].Epoch())
	f.yields(three, "three")
	addAs(t, s, "topic", "t", "data", "four", "link", "tag")
	five := add(t, s.journal(), "five")
	f.yields(moved([]broadcast.ID{broadcast.MakeID(1, 4), broadcast.MakeID(1, 5)}, old[0].Epoch()), "four", "five")

	s.do("COPY", "fanfare", "backup")
	add(t, j, "lost")
	s.do("COPY", "backup", "fanfare", "REPLACE")
	require.NotEqual(t, five[0].Epoch(), add(t, s.journal(), "six")[0].Epoch())
}

// A user without the permissions for the witness publishes and follows without it, and a warning
// names the key.
func TestUserWithoutTheWitness(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		rules []any
		warns bool
	}{
		{"the key is allowed", []any{"~fanfare", "~{fanfare}:witness"}, false},
		{"no pattern for the key", []any{"~fanfare"}, true},
		{"the key may only be read", []any{"~fanfare", "%R~{fanfare}:witness"}, true},
		{"no GET", []any{"~*", "-get"}, true},
		{"no SET", []any{"~*", "-set"}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := start(t)
			s.do(slices.Concat([]any{"ACL", "SETUSER", "user", "on", "nopass", "+@all"}, test.rules)...)
			client := redis.NewClient(&redis.Options{Addr: s.address, Username: "user", Password: "x"})
			t.Cleanup(func() { client.Close() })
			log := new(lines)
			j := &redisjournal.Journal{Client: client, Logger: slog.New(slog.NewTextHandler(log, nil))}
			f := follow(t, j, broadcast.ID{})
			epochs := make(map[uint64]bool)
			for i := range 5 {
				ids := add(t, j, fmt.Sprint(i))
				epochs[ids[0].Epoch()] = true
				f.yields(ids, fmt.Sprint(i))
			}
			require.Len(t, epochs, 1)
			require.Equal(t, test.warns, log.contain("{fanfare}:witness"))
		})
	}
}

// A key that holds something else than a witness is an error that says what to do.
func TestKeyOfTheWitnessIsTaken(t *testing.T) {
	s := start(t)
	add(t, s.journal(), "one")
	s.do("DEL", "{fanfare}:witness")
	s.do("LPUSH", "{fanfare}:witness", "x")
	_, err := s.journal().Append(t.Context(), broadcast.Message{Topic: "t"})
	require.ErrorIs(t, err, broadcast.ErrNotPublished)
	require.ErrorContains(t, err, "{fanfare}:witness")
	require.ErrorContains(t, err, "delete it")
}

// The witness is in the slot of the stream in a cluster, whatever tag the key has. A key for which
// there is none of that kind goes without.
func TestWitnessInACluster(t *testing.T) {
	t.Parallel()
	s := startCluster(t)
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{s.address}})
	t.Cleanup(func() { client.Close() })
	for key, witness := range map[string]string{
		"fanfare":         "{fanfare}:witness",
		"a{tag}b{second}": "a{tag}b{second}:witness",
		"a{b":             "{a{b}:witness",
		"{}a":             "", "a}b": "",
	} {
		log := new(lines)
		journal := func() *redisjournal.Journal {
			return &redisjournal.Journal{Client: client, Key: key, Logger: slog.New(slog.NewTextHandler(log, nil))}
		}
		ids := add(t, journal(), "one")
		require.Equal(t, broadcast.MakeID(ids[0].Epoch(), 2), add(t, journal(), "two")[0])
		if witness == "" {
			require.True(t, log.contain("CROSSSLOT"), key)
			continue
		}
		require.False(t, log.contain("CROSSSLOT"), key)
		require.EqualValues(t, 1, s.do("EXISTS", witness), key)
		require.True(t, strings.HasPrefix(s.do("GET", witness).(string), fmt.Sprintf("%x 0-2 ", ids[0].Epoch())))
	}
}
