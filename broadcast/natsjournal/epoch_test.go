package natsjournal_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/natsjournal"
)

// A stream that was deleted and created again has a new epoch, also for a node that has
// not noticed.
func TestEpochOfANewStream(t *testing.T) {
	t.Parallel()
	e := startEngine(t)
	j, other := e.journal(), e.journal()
	f := follow(t, j, broadcast.ID{})
	old := add(t, j, numbers(0, 35)...)
	f.yields(old, numbers(0, 35)...)
	add(t, other, "from another node")
	f.yields(nil, "from another node")

	require.NoError(t, admin(t, j.Conn).DeleteStream(t.Context(), "fanfare"))
	gap := f.gap()
	require.NotEqual(t, old[0].Epoch(), gap.Epoch())
	require.Zero(t, gap.Seq())
	// The other node has not noticed, yet its messages get IDs of the new epoch.
	ids := add(t, other, numbers(100, 145)...)
	require.Equal(t, gap.Epoch(), ids[0].Epoch())
	f.yields(ids, numbers(100, 145)...)
}

// A restart of the only server that has the stream in memory begins a new epoch.
func TestEpochAfterARestartInMemory(t *testing.T) {
	t.Parallel()
	e := startEngine(t)
	j, other := e.journal(), e.journal()
	j.Memory, other.Memory = true, true
	f := follow(t, j, broadcast.ID{})
	f.yields(add(t, j, "first"), "first")
	ids := add(t, other, numbers(0, 5)...)
	f.yields(ids, numbers(0, 5)...)
	e.restart()
	gap := f.gap()
	require.NotEqual(t, ids[0].Epoch(), gap.Epoch())
	f.yields(add(t, other, "after"), "after")
}

// An old backup of the stream is a new epoch for a node that has seen more, even if others
// add entries before the node reads the stream again.
func TestEpochAfterALoss(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		others int
	}{
		{"the stream ends before what the node has seen", 0},
		{"the stream ends after that, with other entries", 100},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e := startEngine(t)
			j, late := e.journal(), e.journal()
			f := follow(t, j, broadcast.ID{})
			f.yields(add(t, j, "0"), "0")
			add(t, late, numbers(1, 10)...)
			f.yields(nil, numbers(1, 10)...)
			e.stop()
			backup := e.backup()
			e.start()
			lost := add(t, j, numbers(10, 20)...)
			f.yields(lost, numbers(10, 20)...)
			e.stop()
			e.restore(backup)
			e.elsewhere(func(js jetstream.JetStream) {
				subject := stream(t, js).CachedInfo().Config.Subjects[0]
				for range test.others {
					_, err := js.Publish(t.Context(), subject, nil)
					require.NoError(t, err)
				}
			})
			e.start()

			gap := f.gap()
			require.NotEqual(t, lost[0].Epoch(), gap.Epoch())
			f.yields(nil, numbers(0, 10)...)
			for range test.others {
				m, err := f.next()
				require.NoError(t, err)
				require.Empty(t, m.Topic)
			}
			// The late node has seen nothing but its own entries: the engine refuses its subject.
			ids := add(t, late, "after")
			require.Equal(t, gap.Epoch(), ids[0].Epoch())
			f.yields(ids, "after")
		})
	}
}

// A node without a tail detects a loss by the sequences of its acknowledgements.
func TestEpochAfterALossThatAppendDetects(t *testing.T) {
	t.Parallel()
	for _, durable := range []bool{false, true} {
		t.Run(fmt.Sprint("durable ", durable), func(t *testing.T) {
			t.Parallel()
			e := startEngine(t)
			j := e.journal()
			j.Durable = durable
			add(t, j, numbers(0, 10)...)
			e.stop()
			backup := e.backup()
			e.start()
			lost := add(t, j, numbers(10, 20)...)
			e.stop()
			e.restore(backup)
			e.start()
			require.Eventually(t, j.Conn.IsConnected, soon, moment)
			js := admin(t, e.connect())
			require.Eventually(t, func() bool { // the engine answers, so that no attempt to append is left unanswered
				_, err := js.Stream(within(t), "fanfare")
				return err == nil
			}, soon, moment)
			ids, err := j.Append(within(t), message("after"))
			if durable {
				if errors.Is(err, broadcast.ErrNotPublished) { // it has looked at the stream before
					require.ErrorContains(t, err, "a server that lags behind")
				} else {
					require.ErrorContains(t, err, "although Journal.Durable says that it loses nothing")
				}
				_, _, err = j.Bounds(within(t))
				require.ErrorContains(t, err, "a server that lags behind")
				return
			}
			require.NoError(t, err)
			require.NotEqual(t, lost[0].Epoch(), ids[0].Epoch())
			require.Equal(t, uint64(11), ids[0].Seq())
			_, newest, err := j.Bounds(within(t))
			require.NoError(t, err)
			require.Equal(t, ids[0], newest)
		})
	}
}

// A tail detects that another node has begun a new epoch, also if it has nothing to read.
// It never yields an entry of the new epoch as one of the old.
func TestEpochBegunByAnotherNode(t *testing.T) {
	t.Parallel()
	for _, texts := range [][]string{{}, {"y"}} {
		t.Run(fmt.Sprint(len(texts), " entries"), func(t *testing.T) {
			t.Parallel()
			e := startEngine(t)
			j := e.journal()
			f := follow(t, j, broadcast.ID{})
			ids := add(t, j, "x")
			f.yields(ids, "x")
			js := admin(t, j.Conn)
			config := stream(t, js).CachedInfo().Config
			config.Subjects = []string{"fanfare.1"}
			_, err := js.UpdateStream(t.Context(), config)
			require.NoError(t, err)
			add(t, e.journal(), texts...)
			gap := f.gap()
			require.NotEqual(t, ids[0].Epoch(), gap.Epoch())
			f.yields([]broadcast.ID{broadcast.MakeID(gap.Epoch(), 1)}, "x")
			f.yields(nil, texts...)
		})
	}
}

// Of nodes that detect a loss at the same time, one begins an epoch, and the others take it.
func TestEpochBegunByAllNodes(t *testing.T) {
	t.Parallel()
	e := startEngine(t)
	var journals []*natsjournal.Journal
	var tails []*tailing
	for range 4 {
		j := e.journal()
		journals = append(journals, j)
		tails = append(tails, follow(t, j, broadcast.ID{}))
	}
	add(t, journals[0], numbers(0, 10)...)
	e.stop()
	backup := e.backup()
	e.start()
	add(t, journals[0], numbers(10, 20)...)
	for _, f := range tails {
		f.yields(nil, numbers(0, 20)...)
	}
	e.stop()
	e.restore(backup)
	e.start()

	ends := make(chan broadcast.ID, len(tails))
	for _, f := range tails {
		go func() {
			timer := time.AfterFunc(soon, f.cancel)
			defer timer.Stop()
			var gaps int
			for {
				m, err, ok := f.pull()
				if err != nil {
					gaps++
				}
				if !ok || string(m.Data) == "end" {
					assert.Equal(t, 1, gaps)
					ends <- m.ID
					return
				}
			}
		}()
	}
	for _, j := range journals {
		require.Eventually(t, func() bool { // one that waits for another to begin the epoch may run out of time
			_, _, err := j.Bounds(within(t))
			return err == nil
		}, soon, moment)
	}
	end := add(t, journals[0], "end")[0]
	for range tails {
		require.Equal(t, end, <-ends)
	}
}

// A backup that brings back an epoch which has ended, or a stream that was deleted, is a new
// epoch for nodes that have seen it end.
func TestEpochThatComesBack(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		end  func(*testing.T, *engine)
	}{
		{"after a new epoch", func(t *testing.T, e *engine) {
			edit(t, admin(t, e.connect()), func(c *jetstream.StreamConfig) { c.Subjects = []string{"fanfare.1"} })
		}},
		{"after a new stream", func(t *testing.T, e *engine) {
			require.NoError(t, admin(t, e.connect()).DeleteStream(t.Context(), "fanfare"))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e := startEngine(t)
			j := e.journal()
			f := follow(t, j, broadcast.ID{})
			f.yields(add(t, j, numbers(0, 10)...), numbers(0, 10)...)
			e.stop()
			backup := e.backup()
			e.start()
			lost := add(t, j, "10")
			f.yields(lost, "10")
			test.end(t, e)
			again := add(t, j, "other")
			require.NotEqual(t, lost[0].Epoch(), again[0].Epoch())
			e.stop()
			e.restore(backup)
			e.start()
			ids := add(t, j, "after")
			require.NotEqual(t, lost[0].Epoch(), ids[0].Epoch())
			require.NotEqual(t, again[0].Epoch(), ids[0].Epoch())
		})
	}
}
