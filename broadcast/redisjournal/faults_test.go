package redisjournal_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/redisjournal"
)

var (
	faultCount = flag.Int("faults.count", 8, "how many random faults the engine has in a test")
	faultSeed  = flag.Uint64("faults.seed", 1, "seed of the random faults; if zero, a new one for each run")
)

// faulty is an engine that operators edit, and that fails.
type faulty struct {
	*server
	other *server           // an empty one
	dump  any               // nil: none yet
	last  broadcast.Journal // tells what the newest entry is
	draw  *rand.Rand
	wait  func() // until some more messages have been appended

	// settle waits until all nodes have seen what there is: what no node has seen, or only some,
	// can be lost unnoticed.
	settle func()
}

// fault is something that happens to the engine. It is over when it returns.
type fault struct {
	name   string
	happen func(*faulty)
}

var allFaults = []fault{
	{"snapshot", func(f *faulty) { f.do("SAVE"); f.settle() }},
	{"crash", func(f *faulty) { f.settle(); f.crash(); f.run() }},
	{"COPY away", func(f *faulty) { f.do("COPY", "fanfare", "copy", "REPLACE"); f.settle() }},
	{"COPY back", func(f *faulty) { f.settle(); f.do("COPY", "copy", "fanfare", "REPLACE") }},
	{"DUMP", func(f *faulty) { f.dump = f.do("DUMP", "fanfare"); f.settle() }},
	{"RESTORE", func(f *faulty) {
		if f.dump != nil {
			f.settle()
			f.do("RESTORE", "fanfare", 0, f.dump, "REPLACE")
		}
	}},
	{"RENAME there and back", func(f *faulty) {
		f.settle()
		if f.admin.Rename(f.t.Context(), "fanfare", "elsewhere").Err() == nil { // else there is none yet
			f.wait()
			f.do("RENAME", "elsewhere", "fanfare")
		}
	}},
	{"DEL", func(f *faulty) { f.do("DEL", "fanfare") }},
	{"FLUSHALL", func(f *faulty) { f.do("FLUSHALL") }},
	{"XTRIM", func(f *faulty) { f.do("XTRIM", "fanfare", "MAXLEN", f.draw.IntN(20)) }},
	{"XTRIM and XSETID", func(f *faulty) {
		f.settle()
		f.do("EVAL", "redis.call('XTRIM', KEYS[1], 'MAXLEN', 0) return redis.pcall('XSETID', KEYS[1], '0-1')", 1, "fanfare")
	}},
	{"CLIENT PAUSE", func(f *faulty) { f.do("CLIENT", "PAUSE", 100, "WRITE") }},
	{"CLIENT KILL", func(f *faulty) { _ = f.admin.Do(f.t.Context(), "CLIENT", "KILL", "TYPE", "normal").Err() }},
	{"SIGSTOP", func(f *faulty) {
		require.NoError(f.t, f.process.Process.Signal(syscall.SIGSTOP))
		timer := time.NewTimer(100 * time.Millisecond)
		<-timer.C
		require.NoError(f.t, f.process.Process.Signal(syscall.SIGCONT))
	}},
	{"no memory", func(f *faulty) {
		f.do("CONFIG", "SET", "maxmemory", 1)
		f.do("CONFIG", "SET", "maxmemory", 0)
	}},
	{"SCRIPT FLUSH", func(f *faulty) { f.do("SCRIPT", "FLUSH") }},
	{"foreign entry", func(f *faulty) {
		_ = f.admin.Do(f.t.Context(), "XADD", "fanfare", "NOMKSTREAM", "0-*", "field", "value").Err()
	}},
	{"ACL", func(f *faulty) {
		f.do("ACL", "SETUSER", "default", []string{"-xadd", "-info", "-xread", "-xrevrange", "-xpending"}[f.draw.IntN(5)])
		_, _ = f.journal().Append(f.t.Context(), broadcast.Message{Topic: "t", Data: []byte("during")})
		f.do("ACL", "SETUSER", "default", "+@all")
	}},
	{"replica and back", func(f *faulty) {
		f.do("REPLICAOF", "127.0.0.1", f.other.port())
		require.Eventually(f.t, func() bool { return f.role() == "slave connected" }, patience, time.Millisecond)
		f.do("REPLICAOF", "NO", "ONE")
	}},
}

// Whatever happens to the engine, no ID is given to two messages, each Tail yields what follows
// without a hole or says that there is one, what was refused never arrives, and at the end all
// have read the last message.
func TestNoIDTwiceDuringFaults(t *testing.T) {
	t.Parallel()
	for _, durable := range []bool{false, true} {
		t.Run(fmt.Sprintf("Durable %v", durable), func(t *testing.T) { testFaults(t, durable) })
	}
}

func testFaults(t *testing.T, durable bool) {
	seed := *faultSeed
	for seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-faults.seed=%d", seed)
	f := &faulty{
		server: start(t, "--dbfilename", "dump.rdb", "--repl-diskless-sync-delay", "0"),
		other:  start(t, "--repl-diskless-sync-delay", "0"), draw: rand.New(rand.NewPCG(seed, 0)),
	}
	f.last = &redisjournal.Journal{Client: f.client("last"), Durable: durable, Logger: quiet()}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	given := &givenIDs{t: t}
	refused := new(refusals)
	var positions [3]atomic.Pointer[broadcast.ID]
	for i := range positions {
		j := &redisjournal.Journal{Client: f.client("node"), Durable: durable, Logger: quiet()}
		positions[i].Store(new(broadcast.ID))
		all.Go(func() { given.follow(ctx, j, &positions[i]) })
		all.Go(func() { refused.appendTo(ctx, given, j, i) })
	}
	f.wait = func() { given.waitForMore(20) }
	f.settle = func() {
		t.Helper()
		var newest broadcast.ID
		for i := range positions {
			require.Eventually(t, func() bool {
				position := positions[i].Load()
				if position.Epoch() == newest.Epoch() && position.Seq() >= newest.Seq() {
					return !newest.IsZero()
				}
				if _, now, err := f.last.Bounds(ctx); err == nil && now.Epoch() != newest.Epoch() {
					newest = now // it may still change
				}
				return false
			}, patience, time.Millisecond, "a tail does not get on")
		}
	}
	for range *faultCount {
		f.wait()
		fault := allFaults[f.draw.IntN(len(allFaults))]
		t.Log(fault.name)
		fault.happen(f)
	}
	f.wait()
	f.settle()
	given.texts.Range(func(id, text any) bool {
		_, found := refused.texts.Load(text)
		return assert.False(t, found, "%v was refused, and has the ID %v", text, id)
	})
}

// refusals are the texts that were surely not published.
type refusals struct{ texts sync.Map }

// appendTo appends messages until ctx ends.
func (r *refusals) appendTo(ctx context.Context, given *givenIDs, j broadcast.Journal, appender int) {
	for i := 0; ctx.Err() == nil; i++ {
		text := fmt.Sprint(appender, " ", i)
		ids, err := j.Append(ctx, broadcast.Message{Topic: "t", Data: []byte(text)})
		switch {
		case err == nil:
			given.record(ids[0], text)
			given.appended.Add(1)
		case errors.Is(err, broadcast.ErrNotPublished):
			r.texts.Store(text, true)
		}
	}
}
