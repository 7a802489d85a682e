package natsjournal_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/natsjournal"
)

func TestStreamMadeAnewUnderATail(t *testing.T) {
	e := startEngine(t)
	j, other := e.journal(), e.journal()
	f := follow(t, j, broadcast.ID{})
	old := add(t, j, numbers(0, 35)...)
	f.yields(old, numbers(0, 35)...)
	add(t, other, "seen by another node")
	f.yields(nil, "seen by another node")

	require.NoError(t, admin(t, j.Conn).DeleteStream(t.Context(), "fanfare"))
	told := f.gap()
	require.NotEqual(t, old[0].Epoch(), told.Epoch())
	require.Zero(t, told.Seq())
	// The other node has not noticed. What it adds has an ID of the new epoch.
	ids := add(t, other, numbers(100, 145)...)
	require.Equal(t, told.Epoch(), ids[0].Epoch())
	f.yields(ids, numbers(100, 145)...)
}

func TestRestartOnDisk(t *testing.T) {
	e := startEngine(t)
	j, other := e.journal(), e.journal()
	f := follow(t, j, broadcast.ID{})
	f.yields(add(t, other, "before"), "before")
	e.restart()
	f.yields(add(t, other, "after", "more"), "after", "more")
}

// In memory a server that is alone forgets the stream.
func TestRestartInMemory(t *testing.T) {
	e := startEngine(t)
	j, other := e.journal(), e.journal()
	j.Memory, other.Memory = true, true
	f := follow(t, j, broadcast.ID{})
	ids := add(t, other, numbers(0, 5)...)
	f.yields(ids, numbers(0, 5)...)
	e.restart()
	told := f.gap()
	require.NotEqual(t, ids[0].Epoch(), told.Epoch())
	f.yields(add(t, other, "after"), "after")
}

// The engine is given back an old state of the stream, to which others may add
// before this node can look.
func TestLostTail(t *testing.T) {
	tests := []struct {
		name   string
		others int
	}{
		{"it ends before what this node has seen", 0},
		{"it ends behind that, but with other entries", 100},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e := startEngine(t)
			j, late := e.journal(), e.journal()
			add(t, late, numbers(0, 10)...)
			f := follow(t, j, broadcast.ID{})
			f.yields(nil, numbers(0, 10)...)
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

			told := f.gap()
			require.NotEqual(t, lost[0].Epoch(), told.Epoch())
			f.yields(nil, numbers(0, 10)...)
			for range test.others {
				m, err := f.next()
				require.NoError(t, err)
				require.Empty(t, m.Topic)
			}
			// This one has seen nothing but its own: the engine refuses the old epoch.
			ids := add(t, late, "after")
			require.Equal(t, told.Epoch(), ids[0].Epoch())
			f.yields(ids, "after")
		})
	}
}

// A node that follows nothing notices by its own acknowledgements.
func TestLostTailNoticedByAppend(t *testing.T) {
	for _, durable := range []bool{false, true} {
		t.Run(fmt.Sprint("durable ", durable), func(t *testing.T) {
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
			ids, err := j.Append(within(t), message("after"))
			if durable {
				require.ErrorContains(t, err, "although Journal.Durable says that it loses nothing")
				require.NotErrorIs(t, err, broadcast.ErrNotPublished)
				_, _, err = j.Bounds(within(t))
				require.ErrorContains(t, err, "a server that is behind")
				return
			}
			require.NoError(t, err)
			require.NotEqual(t, lost[0].Epoch(), ids[0].Epoch())
			require.Equal(t, uint64(11), ids[0].Seq())
			_, newest, err := e.journal().Bounds(within(t))
			require.NoError(t, err)
			require.Equal(t, ids[0], newest)
		})
	}
}

// A Tail learns of another node's new epoch also when it has nothing to read, and
// yields no entry of it as one of the old.
func TestEpochBegunByAnother(t *testing.T) {
	for _, texts := range [][]string{{}, {"y"}} {
		t.Run(fmt.Sprint(len(texts), " entries"), func(t *testing.T) {
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
			told := f.gap()
			require.NotEqual(t, ids[0].Epoch(), told.Epoch())
			f.yields([]broadcast.ID{broadcast.MakeID(told.Epoch(), 1)}, "x")
			f.yields(nil, texts...)
		})
	}
}

// Nodes that notice a loss at the same time begin more than one epoch, and agree
// on the last one.
func TestNodesAgreeOnTheEpoch(t *testing.T) {
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
					assert.Positive(t, gaps)
					ends <- m.ID
					return
				}
			}
		}()
	}
	for _, j := range journals {
		_, _, err := j.Bounds(within(t))
		require.NoError(t, err)
	}
	end := add(t, journals[0], "end")[0]
	for range tails {
		require.Equal(t, end, <-ends)
	}
}
