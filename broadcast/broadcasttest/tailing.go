package broadcasttest

import (
	"context"
	"errors"
	"iter"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// add appends a message on topic "t" for each text, one Append after the other.
func add(t *testing.T, j broadcast.Journal, texts ...string) []broadcast.ID {
	t.Helper()
	var all []broadcast.ID
	for _, text := range texts {
		all = append(all, addAll(t, j, text)...)
	}
	return all
}

// addAll appends a message on topic "t" for each text with one Append.
func addAll(t *testing.T, j broadcast.Journal, texts ...string) []broadcast.ID {
	t.Helper()
	ms := make([]broadcast.Message, len(texts))
	for i, text := range texts {
		ms[i] = broadcast.Message{Topic: "t", Data: []byte(text)}
	}
	ids, err := j.Append(background(t), ms...)
	require.NoError(t, err, "Append")
	require.Len(t, ids, len(ms), "the IDs that Append returned")
	return ids
}

// tryAppend appends messages from goroutines other than the test's, which must not call
// FailNow. It returns nil if that fails.
func tryAppend(t *testing.T, j broadcast.Journal, ms ...broadcast.Message) []broadcast.ID {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ids, err := j.Append(ctx, ms...)
	if !assert.NoError(t, err, "Append") || !assert.Len(t, ids, len(ms), "the IDs that Append returned") {
		return nil
	}
	return ids
}

// tailing is a running Tail. It checks that each entry follows the one before it.
type tailing struct {
	t      *testing.T
	cancel context.CancelFunc
	resume func() (broadcast.Message, error, bool) // of iter.Pull2

	last broadcast.ID // the last one yielded
	gaps int          // how many there were
}

func follow(t *testing.T, j broadcast.Journal, after broadcast.ID) *tailing {
	ctx, cancel := context.WithCancel(context.Background())
	resume, stop := iter.Pull2(j.Tail(ctx, after))
	t.Cleanup(stop)
	t.Cleanup(cancel)
	return &tailing{t: t, cancel: cancel, resume: resume, last: after}
}

// pull returns what the Tail yields next. It cancels the ctx if that takes longer than patience.
func (f *tailing) pull() (broadcast.Message, error, bool) {
	timer := time.AfterFunc(patience, f.cancel)
	defer timer.Stop()
	return f.resume()
}

// next returns the next message. It skips gaps and entries that are not messages.
func (f *tailing) next() broadcast.Message {
	f.t.Helper()
	for {
		m, err, ok := f.pull()
		require.True(f.t, ok, "the Tail ended after %v", f.last)
		if errors.Is(err, broadcast.ErrGap) {
			f.gaps++
		} else {
			require.NoError(f.t, err, "the Tail after %v", f.last)
			if !f.last.IsZero() {
				require.Equal(f.t, broadcast.MakeID(f.last.Epoch(), f.last.Seq()+1), m.ID, "an entry and the one before it")
			}
		}
		f.last = m.ID
		if err == nil && m.Topic != "" {
			return m
		}
	}
}

// exactly checks that these messages come next, without a gap.
func (f *tailing) exactly(ids []broadcast.ID, texts []string) {
	f.t.Helper()
	gaps := f.gaps
	for i, text := range texts {
		m := f.next()
		require.Equal(f.t, text, string(m.Data))
		require.Equal(f.t, ids[i], m.ID, "the ID of %q", text)
	}
	require.Equal(f.t, gaps, f.gaps, "the number of gaps")
}
