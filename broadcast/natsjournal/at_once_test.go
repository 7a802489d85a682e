package natsjournal_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/natsjournal"
)

// epochs counts the epochs that the nodes of each stream have begun, by what they log.
type epochs struct {
	slog.Handler

	mu    sync.Mutex
	begun map[string]int // by stream; guarded by mu
}

func (e *epochs) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelError }

func (e *epochs) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "stream" {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.begun[a.Value.String()]++
			return false
		}
		return true
	})
	return nil
}

func (e *epochs) of(stream string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.begun[stream]
}

// Three nodes that start at the same moment are in one epoch: that of a new stream, or the one
// that one of them begins because nobody attests that nothing is lost.
func TestNodesThatStartAtOnce(t *testing.T) {
	t.Parallel()
	const rounds = 24
	for _, test := range []struct {
		name  string
		found bool // the stream, without a witness
	}{{"new stream", false}, {"stream without a witness", true}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e := startEngine(t)
			log := &epochs{Handler: slog.DiscardHandler, begun: make(map[string]int)}
			conns := []func() *natsjournal.Journal{e.sharing(log), e.sharing(log), e.sharing(log)}
			var all sync.WaitGroup
			for round := range rounds {
				stream := fmt.Sprint("stream", round)
				if test.found {
					j := e.sharing(log)()
					j.Stream, j.MaxBytes = stream, 1<<20
					add(t, j, "of a node that has crashed")
				}
				all.Go(func() { startAtOnce(t, stream, conns) })
			}
			all.Wait()
			for round := range rounds {
				want := 0
				if test.found {
					want = 1
				}
				assert.Equal(t, want, log.of(fmt.Sprint("stream", round)), "epochs begun in round %d", round)
			}
		})
	}
}

// sharing returns a function that makes journals of one node, which share a connection.
func (e *engine) sharing(log slog.Handler) func() *natsjournal.Journal {
	e.t.Helper()
	conn := e.connect()
	return func() *natsjournal.Journal {
		j := journal(conn)
		j.Logger = slog.New(log)
		return j
	}
}

// startAtOnce starts nodes on a stream, which follow it and add an entry each. None of them
// leaves the epoch in which it begins, and all have the same.
func startAtOnce(t *testing.T, stream string, open []func() *natsjournal.Journal) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*soon)
	defer cancel()
	var nodes sync.WaitGroup
	defer nodes.Wait()
	found := make(chan uint64, len(open))
	for i := range open {
		nodes.Go(func() {
			j := open[i]()
			j.Stream, j.MaxBytes = stream, 1<<20
			_, newest, err := j.Bounds(ctx)
			if !assert.NoError(t, err) {
				cancel()
				return
			}
			nodes.Go(func() {
				_, err := j.Append(ctx, message(fmt.Sprint("node", i)))
				assert.NoError(t, err)
			})
			added := 0
			for m, err := range j.Tail(ctx, broadcast.MakeID(newest.Epoch(), 0)) {
				if len(m.Data) > 4 && string(m.Data[:4]) == "node" {
					added++
				}
				if !assert.NoError(t, err, "node %d of %s, after %d messages", i, stream, added) || added == len(open) {
					break
				}
			}
			found <- newest.Epoch()
		})
	}
	first := uint64(0)
	for range open {
		select {
		case epoch := <-found:
			if first == 0 {
				first = epoch
			}
			assert.Equal(t, first, epoch, stream)
		case <-ctx.Done():
			assert.Fail(t, "a node has not got all messages", stream)
			return
		}
	}
}
