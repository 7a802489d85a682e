package redisjournal_test

import (
	"context"
	"fmt"
	"iter"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// add appends a message for each text with one Append.
func add(t *testing.T, j broadcast.Journal, texts ...string) []broadcast.ID {
	t.Helper()
	ms := make([]broadcast.Message, len(texts))
	for i, text := range texts {
		ms[i] = broadcast.Message{Topic: "t", Data: []byte(text)}
	}
	ids, err := j.Append(t.Context(), ms...)
	require.NoError(t, err)
	require.Len(t, ids, len(ms))
	return ids
}

// many returns n texts: the prefix and a number.
func many(prefix string, n int) []string {
	texts := make([]string, n)
	for i := range texts {
		texts[i] = fmt.Sprint(prefix, i)
	}
	return texts
}

// tailing is a running Tail. Its ctx is cancelled if it yields nothing for too long.
type tailing struct {
	t      *testing.T
	cancel context.CancelFunc
	next   func() (broadcast.Message, error, bool)
}

func follow(t *testing.T, j broadcast.Journal, after broadcast.ID) *tailing {
	ctx, cancel := context.WithCancel(context.Background())
	next, stop := iter.Pull2(j.Tail(ctx, after))
	t.Cleanup(func() {
		cancel()
		stop()
	})
	return &tailing{t: t, cancel: cancel, next: next}
}

func (f *tailing) pull() (broadcast.Message, error) {
	f.t.Helper()
	timer := time.AfterFunc(patience, f.cancel)
	defer timer.Stop()
	m, err, ok := f.next()
	require.True(f.t, ok, "the Tail ended")
	return m, err
}

// yields checks that the next messages have these texts and IDs.
func (f *tailing) yields(ids []broadcast.ID, texts ...string) {
	f.t.Helper()
	for i, text := range texts {
		m, err := f.pull()
		require.NoError(f.t, err, "instead of %q", text)
		require.Equal(f.t, text, string(m.Data))
		require.Equal(f.t, ids[i], m.ID, "the ID of %q", text)
	}
}

// gap checks that a gap is yielded next, and returns its ID.
func (f *tailing) gap() broadcast.ID {
	f.t.Helper()
	m, err := f.pull()
	gap := new(broadcast.GapError)
	require.ErrorAs(f.t, err, &gap, "instead of the message %q", m.Data)
	require.Equal(f.t, m.ID, gap.ID)
	return m.ID
}

// foreign checks that the next entry is not a message, and returns its ID.
func (f *tailing) foreign() broadcast.ID {
	f.t.Helper()
	m, err := f.pull()
	require.NoError(f.t, err)
	require.Equal(f.t, broadcast.Message{ID: m.ID}, m)
	return m.ID
}

// fails checks that the Tail ends with an error, which it returns.
func (f *tailing) fails() error {
	f.t.Helper()
	_, err := f.pull()
	require.Error(f.t, err)
	require.NotErrorIs(f.t, err, broadcast.ErrGap)
	_, _, ok := f.next()
	require.False(f.t, ok, "the Tail continues after %v", err)
	return err
}

// failsAfterEntries checks that the Tail ends with an error after some entries, and returns it.
func (f *tailing) failsAfterEntries() error {
	f.t.Helper()
	for {
		if _, err := f.pull(); err != nil {
			require.NotErrorIs(f.t, err, broadcast.ErrGap)
			return err
		}
	}
}
