package redisjournal_test

import (
	"bytes"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/redisjournal"
)

// waysBack make the stream under a key an older one of itself. Each returns how to go back to
// the stream as it is.
var waysBack = map[string]func(s *server, key string) (back func()){
	"RESTORE": func(s *server, key string) func() {
		dump := s.do("DUMP", key)
		return func() { s.do("RESTORE", key, 0, dump, "REPLACE") }
	},
	"DEL and RESTORE": func(s *server, key string) func() {
		dump := s.do("DUMP", key)
		return func() {
			s.do("DEL", key)
			s.do("RESTORE", key, 0, dump)
		}
	},
	"COPY": func(s *server, key string) func() {
		s.do("COPY", key, key+" backup")
		return func() { s.do("COPY", key+" backup", key, "REPLACE") }
	},
	"RENAME": func(s *server, key string) func() {
		s.do("COPY", key, key+" backup")
		return func() { s.do("RENAME", key+" backup", key) }
	},
	"XTRIM and XSETID": func(s *server, key string) func() {
		return func() {
			s.do("XTRIM", key, "MAXLEN", 0)
			s.do("XSETID", key, "0-5")
		}
	},
	"crash with an older snapshot": func(s *server, _ string) func() {
		s.do("SAVE")
		return func() {
			s.crash()
			s.run()
		}
	},
}

// goesOn are what may happen to a stream that went back. Each returns the IDs that the node
// which had seen the lost entries is given.
var goesOn = map[string]func(t *testing.T, node, other broadcast.Journal) []broadcast.ID{
	"nobody appends":        func(*testing.T, broadcast.Journal, broadcast.Journal) []broadcast.ID { return nil },
	"the node appends":      func(t *testing.T, node, _ broadcast.Journal) []broadcast.ID { return add(t, node, "new") },
	"the node appends much": func(t *testing.T, node, _ broadcast.Journal) []broadcast.ID { return add(t, node, many("new", 20)...) },
	"a new node appends much": func(t *testing.T, _, other broadcast.Journal) []broadcast.ID {
		add(t, other, many("new", 20)...)
		return nil
	},
	"a new node appends one by one": func(t *testing.T, _, other broadcast.Journal) []broadcast.ID {
		for _, text := range many("new", 20) {
			add(t, other, text)
		}
		return nil
	},
}

// A stream that went back to what it was gets a new epoch, whoever notices it first, and also
// if it is longer by then than it was; no ID is given twice. Durable does not change that.
func TestEpochAfterTheStreamWentBack(t *testing.T) {
	shared := start(t)
	for way, prepare := range waysBack {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			s := shared
			if way == "crash with an older snapshot" {
				s = start(t, "--dbfilename", "dump.rdb")
			}
			journal := func(key string) *redisjournal.Journal {
				return &redisjournal.Journal{Client: s.client("node"), Key: key, Durable: true, Logger: quiet()}
			}
			nodes := make(map[string]*wentBack)
			var back []func()
			for then := range goesOn {
				key := way + ", " + then
				n := &wentBack{node: journal(key)}
				n.tail = follow(t, n.node, broadcast.ID{})
				n.old = add(t, n.node, many("kept", 5)...)
				n.tail.yields(n.old, many("kept", 5)...)
				nodes[then] = n
				back = append(back, prepare(s, key))
			}
			for _, n := range nodes {
				lost := add(t, n.node, many("lost", 5)...)
				n.tail.yields(lost, many("lost", 5)...)
				n.old = append(n.old, lost...)
			}
			for i, back := range back {
				if s == shared || i == 0 {
					back()
				}
			}
			for then, appends := range goesOn {
				t.Run(then, func(t *testing.T) { nodes[then].check(t, appends, journal(way+", "+then)) })
			}
		})
	}
}

// wentBack is a node whose stream went back, and what it has seen of it.
type wentBack struct {
	node broadcast.Journal
	tail *tailing
	old  []broadcast.ID
}

func (n *wentBack) check(t *testing.T, appends func(*testing.T, broadcast.Journal, broadcast.Journal) []broadcast.ID, other broadcast.Journal) {
	for _, id := range appends(t, n.node, other) {
		require.NotEqual(t, n.old[0].Epoch(), id.Epoch())
	}
	m, err := n.tail.pull()
	if !errors.Is(err, broadcast.ErrGap) { // a crash ends the tail
		require.Error(t, err, "instead of %q", m.Data)
		n.tail = follow(t, n.node, n.old[9])
		m, err = n.tail.pull()
	}
	require.ErrorIs(t, err, broadcast.ErrGap, "instead of %q", m.Data)
	require.NotEqual(t, n.old[0].Epoch(), m.ID.Epoch())
	_, newest, err := n.node.Bounds(t.Context())
	require.NoError(t, err)
	require.Equal(t, newest.Epoch(), m.ID.Epoch(), "one new epoch")
}

// A tail that is behind does not take entries of the new epoch for those that were lost.
func TestTailThatIsBehindAfterTheStreamWentBack(t *testing.T) {
	s := start(t)
	j := s.journal()
	texts := many("kept", 128) // as many as a tail reads first
	kept := add(t, j, texts...)
	dump := s.do("DUMP", "fanfare")
	add(t, j, many("lost", 200)...)
	behind := follow(t, s.journal(), broadcast.ID{})
	behind.yields(kept, texts...)
	s.do("RESTORE", "fanfare", 0, dump, "REPLACE")
	ids := add(t, j, many("new", 100)...)
	require.NotEqual(t, kept[0].Epoch(), ids[0].Epoch())
	require.Equal(t, ids[0].Epoch(), behind.gap().Epoch())
	behind.yields(moved(kept, ids[0].Epoch()), texts...)
	behind.yields(ids, many("new", 100)...)
}

// A stream that is moved away and back has a new epoch, whoever used the key meanwhile, since
// clients that have got a gap must not get the same IDs again.
func TestEpochAfterARenameThereAndBack(t *testing.T) {
	t.Parallel()
	s := start(t)
	j := s.journal()
	f := follow(t, j, broadcast.ID{})
	old := add(t, j, "one", "two")
	f.yields(old, "one", "two")
	s.do("RENAME", "fanfare", "elsewhere")
	between := add(t, j, "between")
	require.NotEqual(t, old[0].Epoch(), f.gap().Epoch())
	f.yields(between, "between")
	s.do("RENAME", "elsewhere", "fanfare")
	epoch := f.gap().Epoch()
	require.NotContains(t, []uint64{old[0].Epoch(), between[0].Epoch()}, epoch)
	f.yields(moved(old, epoch), "one", "two")
	f.yields(add(t, j, "three"), "three")

	// If nobody has noticed, it is the same stream.
	s.do("RENAME", "fanfare", "elsewhere")
	s.do("RENAME", "elsewhere", "fanfare")
	four := add(t, j, "four")
	require.Equal(t, epoch, four[0].Epoch())
	f.yields(four, "four")
}

// A node that keeps more than another one logs that the smallest MaxEntries holds.
func TestMaxEntriesOfNodesDiffer(t *testing.T) {
	t.Parallel()
	s := start(t)
	log := new(lines)
	more := &redisjournal.Journal{Client: s.client("more"), MaxEntries: 1000, Logger: slog.New(slog.NewTextHandler(log, nil))}
	fewer := &redisjournal.Journal{Client: s.client("fewer"), MaxEntries: 200, Logger: quiet()}
	run(t, more)
	require.Eventually(t, func() bool {
		add(t, fewer, many("x", 100)...)
		return log.contain("smaller MaxEntries")
	}, patience, 100*time.Millisecond)
}

// Nodes with the same MaxEntries log nothing of it, whatever is trimmed.
func TestMaxEntriesOfNodesAreTheSame(t *testing.T) {
	s := start(t)
	log := new(lines)
	for range 2 {
		j := &redisjournal.Journal{Client: s.client("node"), MaxEntries: 200, Logger: slog.New(slog.NewTextHandler(log, nil))}
		for range 20 {
			add(t, j, many("x", 100)...)
			_, _, err := j.Bounds(t.Context())
			require.NoError(t, err)
		}
	}
	require.False(t, log.contain("MaxEntries"))
}

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) contain(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Contains(l.text.Bytes(), []byte(text))
}
