package redisjournal_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/redisjournal"
)

// xreadReply returns a reply of XREAD in RESP2 or RESP3.
func xreadReply(begin string, entries ...[]string) []byte {
	text := new(strings.Builder)
	fmt.Fprintf(text, "%s$7\r\nfanfare\r\n*%d\r\n", begin, len(entries))
	for _, e := range entries {
		fmt.Fprintf(text, "*2\r\n$%d\r\n%s\r\n*%d\r\n", len(e[0]), e[0], len(e)-1)
		for _, field := range e[1:] {
			fmt.Fprintf(text, "$%d\r\n%s\r\n", len(field), field)
		}
	}
	return []byte(text.String())
}

// Both protocols of Redis are parsed, with fields by name, in any order, and unknown ones.
func TestParseXRead(t *testing.T) {
	want := []broadcast.Message{
		{ID: broadcast.MakeID(2, 7), Topic: "t", Type: "y", From: "f", Data: []byte("d\r\n"), Binary: true},
		{ID: broadcast.MakeID(2, 8)},
		{ID: broadcast.MakeID(2, 9), Topic: "t", Key: "k", Removed: true},
		{ID: broadcast.MakeID(2, 10), Topic: "t", First: true, End: true},
	}
	for _, begin := range []string{"*1\r\n*2\r\n", "%1\r\n"} {
		got, err := redisjournal.ParseXRead(xreadReply(begin,
			[]string{"0-7", "later", "x", "data", "d\r\n", "from", "f", "binary", "1", "type", "y", "topic", "t", "link", "a b c"},
			[]string{"0-8", "field", "value"},
			[]string{"0-9", "topic", "t", "key", "k", "removed", "1"},
			[]string{"0-10", "end", "1", "first", "1", "topic", "t"}))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, none := range []string{"*-1\r\n", "_\r\n", "*1\r\n*2\r\n$1\r\nx\r\n*0\r\n"} {
		got, err := redisjournal.ParseXRead([]byte(none))
		require.NoError(t, err, "%q", none)
		require.Empty(t, got)
	}
	_, err := redisjournal.ParseXRead([]byte("-MOVED 1 127.0.0.1:1\r\n"))
	require.True(t, redis.HasErrorPrefix(err, "MOVED"))
}

// No reply makes the parser panic or read without end.
func FuzzParseXRead(f *testing.F) {
	f.Add(xreadReply("*1\r\n*2\r\n", []string{"0-7", "topic", "t", "link", "a b c"}, []string{"0-8"}))
	f.Add(xreadReply("%1\r\n", []string{"0-7", "topic", "t"}))
	f.Add([]byte("*-1\r\n"))
	f.Add([]byte("-ERR x\r\n"))
	f.Add([]byte("*1\r\n*2\r\n$1\r\nx\r\n*999999999\r\n"))
	f.Fuzz(func(t *testing.T, reply []byte) {
		got, err := redisjournal.ParseXRead(reply)
		require.LessOrEqual(t, len(got), len(reply))
		if err != nil {
			require.Empty(t, got)
		}
	})
}

// calls returns how often the server has run commands with these names.
func (s *server) calls(names ...string) (total int) {
	s.t.Helper()
	info, err := s.admin.Info(s.t.Context(), "commandstats").Result()
	require.NoError(s.t, err)
	for line := range strings.Lines(info) {
		name, rest, _ := strings.Cut(line, ":calls=")
		count, _, _ := strings.Cut(rest, ",")
		for _, want := range names {
			if name == "cmdstat_"+want {
				n, err := strconv.Atoi(count)
				require.NoError(s.t, err)
				total += n
			}
		}
	}
	return total
}

// A message costs the engine one script, and one XREAD of each node: all else is done once a
// second.
func TestCommandsPerMessage(t *testing.T) {
	s := start(t)
	const nodes, messages = 4, 500
	var tails []*tailing
	j := s.journal()
	ids := add(t, j, "first")
	for range nodes {
		f := follow(t, s.journal(), broadcast.ID{})
		f.yields(ids, "first")
		tails = append(tails, f)
	}
	began := time.Now()
	s.do("CONFIG", "RESETSTAT")
	for i := range messages {
		text := fmt.Sprint(i)
		ids := add(t, j, text)
		for _, f := range tails {
			f.yields(ids, text)
		}
	}
	seconds := int(time.Since(began)/time.Second) + 2
	require.LessOrEqual(t, s.calls("xadd", "evalsha", "eval"), 2*messages+(2*nodes+5)*seconds)
	require.LessOrEqual(t, s.calls("xread"), nodes*(messages+seconds))
	require.LessOrEqual(t, s.calls("info", "type", "xinfo|stream", "xinfo|groups", "xrange"), (2*nodes+5)*seconds*5)
}

// A tail that is behind reads thousands of entries at once, in a few round trips.
func TestTailThatIsBehind(t *testing.T) {
	s := start(t)
	j := s.journal()
	const batches, size = 60, 500
	var ids []broadcast.ID
	texts := many("x", size)
	for range batches {
		ids = append(ids, add(t, j, texts...)...)
	}
	s.do("CONFIG", "RESETSTAT")
	began := time.Now()
	f := follow(t, j, broadcast.ID{})
	for i := range batches {
		f.yields(ids[i*size:], texts...)
	}
	looks := 3 * (int(time.Since(began)/time.Second) + 1)
	require.Less(t, s.calls("xread", "xrange"), 20+looks)
}

// Large entries are read few at a time.
func TestTailOfLargeEntries(t *testing.T) {
	t.Parallel()
	s := start(t)
	j := s.journal()
	large := strings.Repeat("x", 200_000)
	var ids []broadcast.ID
	texts := make([]string, 300)
	for i := range texts {
		texts[i] = large
		ids = append(ids, add(t, j, large)...)
	}
	s.do("CONFIG", "RESETSTAT")
	f := follow(t, j, ids[0])
	f.yields(ids[1:], texts[1:]...)
	// 128, 64 and 32, then 16 at once. Some of them a look reads, with XRANGE: how many depends
	// on the time that it takes.
	require.GreaterOrEqual(t, s.calls("xread", "xrange"), 8)
}
