package natsjournal_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/natsjournal"
)

// close ends a Tail as a node does that closes cleanly.
func (f *tailing) close() {
	f.t.Helper()
	f.cancel()
	for {
		_, err, ok := f.pull()
		if !ok || err != nil && !errors.Is(err, broadcast.ErrGap) {
			return
		}
	}
}

// crash ends a node without a word: nothing of it reaches the engine any more.
func (f *tailing) crash(j *natsjournal.Journal) {
	f.t.Helper()
	j.Conn.Close()
	f.close()
}

// newest returns what a node that starts now finds.
func newest(t *testing.T, j *natsjournal.Journal) broadcast.ID {
	t.Helper()
	_, id, err := j.Bounds(within(t))
	require.NoError(t, err)
	return id
}

// A node that starts goes on in the epoch of a node that has closed cleanly, or of one that
// still follows the stream. After a node that has not closed cleanly it begins a new epoch,
// because what that knew is gone.
func TestWitness(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		between func(t *testing.T, e *engine, j *natsjournal.Journal, f *tailing)
		same    bool
	}{
		{"a clean end", func(_ *testing.T, _ *engine, _ *natsjournal.Journal, f *tailing) { f.close() }, true},
		{"a clean end, and a restart of the engine", func(_ *testing.T, e *engine, _ *natsjournal.Journal, f *tailing) {
			f.close()
			e.restart()
		}, true},
		{"a clean end, and others have been added", func(t *testing.T, e *engine, j *natsjournal.Journal, f *tailing) {
			f.close()
			js := admin(t, e.connect())
			_, err := js.Publish(t.Context(), stream(t, js).CachedInfo().Config.Subjects[0], nil)
			require.NoError(t, err)
		}, true},
		{"a clean end, and a purge", func(t *testing.T, e *engine, _ *natsjournal.Journal, f *tailing) {
			f.close()
			require.NoError(t, stream(t, admin(t, e.connect())).Purge(t.Context()))
		}, true},
		{"still following", func(*testing.T, *engine, *natsjournal.Journal, *tailing) {}, true},
		{"a crash", func(_ *testing.T, _ *engine, j *natsjournal.Journal, f *tailing) { f.crash(j) }, false},
		{"a crash after a clean end and a new beginning", func(t *testing.T, _ *engine, j *natsjournal.Journal, f *tailing) {
			f.close()
			again := follow(t, j, broadcast.ID{})
			again.yields(nil, "first")
			again.crash(j)
		}, false},
		{"a clean end, and more of the same node", func(t *testing.T, _ *engine, j *natsjournal.Journal, f *tailing) {
			f.close()
			add(t, j, numbers(0, 3)...)
			j.Conn.Close()
		}, true},
		{"a crash of a node that has entered by a witness and only adds", func(t *testing.T, e *engine, _ *natsjournal.Journal, f *tailing) {
			f.close()
			j := e.journal()
			add(t, j, "second")
			j.Conn.Close()
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e := startEngine(t)
			j := e.journal()
			f := follow(t, j, broadcast.ID{})
			first := add(t, j, "first")
			f.yields(first, "first")
			test.between(t, e, j, f)
			found := newest(t, e.journal())
			require.Equal(t, test.same, first[0].Epoch() == found.Epoch())
		})
	}
}

// What a node adds after its end is in the witness before Append returns: if the engine loses
// it, the witness contradicts the stream.
func TestWitnessOfWhatIsAddedAfterTheEnd(t *testing.T) {
	t.Parallel()
	e := startEngine(t)
	j := e.journal()
	f := follow(t, j, broadcast.ID{})
	f.yields(add(t, j, "first"), "first")
	f.close()
	e.stop()
	older := e.backup()
	e.start()
	lost := add(t, j, "second", "third")
	j.Conn.Close()
	e.stop()
	consumers := filepath.Join("jetstream", "$G", "streams", "fanfare", "obs")
	witness := os.DirFS(filepath.Join(e.backup(), consumers))
	e.restore(older)
	require.NoError(t, os.RemoveAll(filepath.Join(e.options.StoreDir, consumers)))
	require.NoError(t, os.CopyFS(filepath.Join(e.options.StoreDir, consumers), witness))
	e.start()
	again := add(t, e.journal(), "again")
	require.NotEqual(t, lost[0].Epoch(), again[0].Epoch())
	require.Equal(t, lost[0].Seq(), again[0].Seq())
}

// Nodes that stop in order while they publish leave no gap behind, however their last messages
// and the witness overtake each other.
func TestWitnessWithPublishesInFlight(t *testing.T) {
	t.Parallel()
	e := startEngine(t)
	first := e.journal()
	epoch := add(t, first, "first")[0].Epoch()
	f := follow(t, first, broadcast.ID{})
	f.yields(nil, "first")
	f.close()
	for range 8 {
		var publishers sync.WaitGroup
		var nodes []func()
		for range 3 {
			j := e.journal()
			ctx, stop := context.WithCancel(t.Context())
			following, ended := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(ended)
				begun := sync.OnceFunc(func() { close(following) })
				defer begun()
				for m, err := range j.Tail(ctx, broadcast.MakeID(epoch, 0)) {
					if ctx.Err() == nil && (!assert.NoError(t, err) || !assert.Equal(t, epoch, m.ID.Epoch())) {
						return
					}
					begun()
				}
			}()
			<-following
			for range 4 {
				publishers.Go(func() {
					for !j.Conn.IsClosed() {
						_, _ = j.Append(t.Context(), message("more")) // fails when the connection is closed
					}
				})
			}
			nodes = append(nodes, func() {
				stop()
				<-ended
				j.Conn.Close()
			})
		}
		for _, end := range nodes {
			end()
		}
		publishers.Wait()
	}
}

// A power loss of the engine and of all nodes is a new epoch: no ID is given twice.
func TestWitnessAfterAPowerLoss(t *testing.T) {
	t.Parallel()
	e := startEngine(t)
	j := e.journal()
	f := follow(t, j, broadcast.ID{})
	ids := add(t, j, numbers(0, 10)...)
	f.yields(ids, numbers(0, 10)...)
	f.close() // and it starts again
	f = follow(t, j, ids[9])
	f.yields(add(t, j, "10"), "10")
	e.stop()
	backup := e.backup()
	e.start()
	lost := add(t, j, numbers(11, 20)...)
	f.yields(lost, numbers(11, 20)...)
	f.crash(j)
	e.stop()
	e.restore(backup)
	e.start()

	after := e.journal()
	again := add(t, after, "after")
	require.NotEqual(t, lost[0].Epoch(), again[0].Epoch())
	g := follow(t, after, lost[8])
	require.Equal(t, again[0].Epoch(), g.gap().Epoch())
}

// Durable declares that a node needs no witness.
func TestWitnessWithDurable(t *testing.T) {
	t.Parallel()
	e := startEngine(t)
	j := e.journal()
	j.Durable = true
	f := follow(t, j, broadcast.ID{})
	first := add(t, j, "first")
	f.yields(first, "first")
	f.crash(j)
	other := e.journal()
	other.Durable = true
	require.Equal(t, first[0], newest(t, other))
}

// A node that closes while another follows is no witness: the other goes on.
func TestWitnessOfTheLastNode(t *testing.T) {
	t.Parallel()
	e := startEngine(t)
	j, other := e.journal(), e.journal()
	f := follow(t, j, broadcast.ID{})
	ids := add(t, j, "first")
	f.yields(ids, "first")
	g := follow(t, other, broadcast.ID{})
	g.yields(ids, "first")
	witness := func() bool {
		_, err := stream(t, admin(t, e.connect())).Consumer(t.Context(), "fanfare-witness")
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			return false
		}
		require.NoError(t, err)
		return true
	}
	f.close()
	require.False(t, witness())
	g.close()
	require.True(t, witness())
	f = follow(t, e.journal(), broadcast.ID{})
	f.yields(ids, "first")
	require.False(t, witness(), "a node has started")
}

// Nodes that are replaced one after the other, as in a rolling deploy, stay in one epoch,
// whether the old one ends before the new one starts or after that.
func TestWitnessOfARollingDeploy(t *testing.T) {
	t.Parallel()
	e := startEngine(t)
	first := e.journal()
	tails := []*tailing{follow(t, first, broadcast.ID{})}
	ids := add(t, first, "first")
	tails[0].yields(ids, "first")
	start := func() *tailing {
		f := follow(t, e.journal(), broadcast.ID{})
		f.yields(ids, "first")
		return f
	}
	tails = append(tails, start(), start())
	for range 2 {
		for i := range tails {
			tails[i].close()
			tails[i] = start()
		}
		for i := range tails {
			next := start()
			tails[i].close()
			tails[i] = next
		}
	}
}

// Of nodes that start at once, after a clean end or on a new engine, none begins an epoch. After
// a crash all of them end up in one.
func TestWitnessOfNodesThatStartAtOnce(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		end  func(*engine, *natsjournal.Journal, *tailing)
		same bool
	}{
		{"after a clean end", func(_ *engine, _ *natsjournal.Journal, f *tailing) { f.close() }, true},
		{"after a crash", func(_ *engine, j *natsjournal.Journal, f *tailing) { f.crash(j) }, false},
		{"beside a node that reconnects", func(e *engine, _ *natsjournal.Journal, f *tailing) {
			ended := make(chan struct{})
			go func() { // it goes on following
				defer close(ended)
				f.pull()
			}()
			f.t.Cleanup(func() {
				f.cancel()
				<-ended
			})
			e.restart()
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e := startEngine(t)
			j := e.journal()
			f := follow(t, j, broadcast.ID{})
			first := add(t, j, "first")
			f.yields(first, "first")
			test.end(e, j, f)

			var nodes sync.WaitGroup
			ctx, cancel := context.WithCancel(t.Context())
			defer nodes.Wait()
			defer cancel()
			found := make(chan broadcast.ID, 5)
			for range cap(found) {
				j := e.journal()
				nodes.Go(func() {
					for m, err := range j.Tail(ctx, first[0]) {
						if string(m.Data) == "second" {
							found <- m.ID
						}
						if err != nil && ctx.Err() == nil && !assert.ErrorIs(t, err, broadcast.ErrGap) {
							return
						}
					}
				})
			}
			ids := add(t, e.journal(), "second")
			require.Equal(t, test.same, first[0].Epoch() == ids[0].Epoch())
			for range cap(found) {
				select {
				case id := <-found:
					require.Equal(t, ids[0], id)
				case <-within(t).Done():
					require.Fail(t, "a node has not found the message")
				}
			}
		})
	}
}

// A Hub that is closed leaves a witness, in whichever way it ends.
func TestWitnessOfAHub(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*broadcast.Hub, context.CancelFunc){
		"the end of its context": func(_ *broadcast.Hub, cancel context.CancelFunc) { cancel() },
		"Close":                  func(hub *broadcast.Hub, _ context.CancelFunc) { _ = hub.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := startEngine(t)
			hub := &broadcast.Hub{Journal: e.journal(), Logger: slog.New(slog.DiscardHandler)}
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- hub.Run(ctx) }()
			id, err := hub.Publish(within(t), broadcast.Message{Topic: "t"})
			require.NoError(t, err)
			require.Eventually(t, func() bool { return hub.Stats().Position == id }, soon, moment)
			end(hub, cancel)
			require.Error(t, <-ended)
			require.Equal(t, id, newest(t, e.journal()))
		})
	}
}
